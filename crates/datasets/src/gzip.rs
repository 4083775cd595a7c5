//! Inflating gzip files (RFC 1952): all members, and nothing but members.

use std::io::{self, Read};

use flate2::bufread::GzDecoder;

const MAGIC: [u8; 2] = [0x1f, 0x8b];

/// Whether `bytes` begin as a gzip file does.
pub(crate) fn is_gzip(bytes: &[u8]) -> bool {
    bytes.starts_with(&MAGIC)
}

/// The content of a gzip file: that of all its members, one after the other. Zeros after the last member
/// are padding, as for `gunzip` and for Python's `gzip`.
///
/// # Errors
/// A truncated or damaged member, other bytes after the last member, more than `largest` bytes of
/// content.
pub(crate) fn inflate(bytes: &[u8], largest: u64) -> io::Result<Vec<u8>> {
    let refused = |problem: String| io::Error::new(io::ErrorKind::InvalidData, problem);
    let mut inflated = Vec::new();
    let mut rest = bytes;
    loop {
        let mut member = GzDecoder::new(rest);
        // One byte more than is allowed, so that the decoder reaches the member's checksum.
        let limit = largest - inflated.len() as u64 + 1;
        (&mut member).take(limit).read_to_end(&mut inflated)?;
        if inflated.len() as u64 > largest {
            return Err(refused(format!("it inflates to more than {largest} bytes")));
        }
        rest = member.into_inner();
        if rest.iter().all(|byte| *byte == 0) {
            return Ok(inflated);
        }
        if !is_gzip(rest) {
            let (length, at) = (rest.len(), bytes.len() - rest.len());
            return Err(refused(format!(
                "{length} bytes that are no gzip member follow the last member, from byte {at} on; \
                 cut them off, or compress the file again"
            )));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::{Compression, write::GzEncoder};
    use proptest::prelude::*;

    use super::*;

    fn member(content: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(content).unwrap();
        encoder.finish().unwrap()
    }

    fn problem(bytes: &[u8], largest: u64) -> String {
        inflate(bytes, largest).unwrap_err().to_string()
    }

    #[test]
    fn zeros_after_the_last_member_are_padding_and_other_bytes_are_refused() {
        let file = [member(b"one, "), member(b""), member(b"two")].concat();
        for padding in [0, 1, 600] {
            let padded = [file.clone(), vec![0; padding]].concat();
            assert_eq!(inflate(&padded, 100).unwrap(), b"one, two");
        }
        for garbage in [&b"x"[..], b"\0\0x", b"\x1f", b"PK\x03\x04"] {
            let problem = problem(&[&file, garbage].concat(), 100);
            let expected = format!("{} bytes that are no gzip member", garbage.len());
            assert!(problem.contains(&expected), "{problem}");
        }
    }

    #[test]
    fn content_beyond_the_limit_is_refused_wherever_a_member_ends() {
        let file = [member(b"12345"), member(b"67890")].concat();
        assert_eq!(inflate(&file, 10).unwrap(), b"1234567890");
        for largest in [0, 4, 5, 9] {
            let expected = format!("more than {largest} bytes");
            assert!(problem(&file, largest).contains(&expected));
        }
    }

    proptest! {
        #![proptest_config(test_support::damage::cases(256))]

        #[test]
        fn members_are_joined_and_no_truncation_or_flipped_bit_passes(
            contents in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 1..4),
            position in any::<prop::sample::Index>(),
            bit in 0..8_u8,
        ) {
            let members: Vec<_> = contents.iter().map(|content| member(content)).collect();
            let (file, content) = (members.concat(), contents.concat());
            prop_assert_eq!(inflate(&file, 1000).unwrap(), content.clone());

            let cut = position.index(file.len());
            let mut ends = members.iter().scan(0, |end, member| {
                *end += member.len();
                Some(*end)
            });
            if !ends.any(|end| end == cut) {
                prop_assert!(inflate(&file[..cut], 1000).is_err(), "cut at {}", cut);
            }
            let mut flipped = file;
            flipped[cut] ^= 1 << bit;
            // Header fields such as the time say nothing about the content.
            if let Ok(found) = inflate(&flipped, 1000) {
                prop_assert_eq!(found, content);
            }
        }
    }
}
