//! TensorFlow's record format (`tensorflow/core/lib/io/record_writer.h`): how a file stores a sequence of messages.
//!
//! ```text
//! length         u64, little-endian
//! its checksum   u32, little-endian: masked CRC32C of the 8 bytes before
//! message        `length` bytes
//! its checksum   u32, little-endian: masked CRC32C of the message
//! ```

use std::ops::Range;

const LENGTH: usize = 8;
const CHECKSUM: usize = 4;

/// Returns `message` as a record.
pub(crate) fn record(message: &[u8]) -> Vec<u8> {
    let length = (message.len() as u64).to_le_bytes();
    let mut record = Vec::with_capacity(LENGTH + CHECKSUM + message.len() + CHECKSUM);
    record.extend(length);
    record.extend(checksum(&length));
    record.extend(message);
    record.extend(checksum(message));
    record
}

/// The messages of a file up to its end, or up to the first record that is cut off or damaged: each with its end in
/// the file.
pub(crate) fn messages(file: &[u8]) -> impl Iterator<Item = (usize, &[u8])> {
    let mut begin = 0;
    std::iter::from_fn(move || {
        let message = message_at(file, begin)?;
        begin = message.end + CHECKSUM;
        Some((begin, &file[message]))
    })
}

/// Where the message of the record at `begin` is; `None` if the record is not whole.
fn message_at(file: &[u8], begin: usize) -> Option<Range<usize>> {
    let part = |range: Range<usize>| file.get(range);
    let after_length = begin.checked_add(LENGTH)?;
    let length = part(begin..after_length)?;
    let message_begin = after_length + CHECKSUM;
    if part(after_length..message_begin)? != checksum(length) {
        return None;
    }
    let length = usize::try_from(u64::from_le_bytes(length.try_into().ok()?)).ok()?;
    let message_end = message_begin.checked_add(length)?;
    let found = part(message_end..message_end.checked_add(CHECKSUM)?)?;
    let message = message_begin..message_end;
    (found == checksum(&file[message.clone()])).then_some(message)
}

/// Masked, because a CRC of data that contains CRCs is weak.
fn checksum(bytes: &[u8]) -> [u8; CHECKSUM] {
    let crc = crc32c::crc32c(bytes);
    let masked = crc.rotate_right(15).wrapping_add(0xa282_ead8);
    masked.to_le_bytes()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use test_support::damage::{cases, foreign};

    use super::*;

    #[test]
    fn checksums_are_those_of_tensorflow() {
        // The first record of an event file has 24 bytes, so every file of TensorFlow begins like this.
        let begin = b"\x18\0\0\0\0\0\0\0\xa3\x7f\x4b\x22";
        assert_eq!(record(&[0; 24])[..12], begin[..]);
        // CRC32C's check value is 0xe3069283 (RFC 3720).
        assert_eq!(checksum(b"123456789"), 0xc78a_b0e5_u32.to_le_bytes());
    }

    #[test]
    fn messages_end_before_a_record_that_is_cut_off() {
        let file = [record(b"one"), record(b""), record(b"three")].concat();
        let read = |file| {
            messages(file)
                .map(|(_, it)| it.to_vec())
                .collect::<Vec<_>>()
        };
        assert_eq!(read(&file), [&b"one"[..], b"", b"three"]);
        for length in 0..file.len() {
            let whole = match length {
                0..19 => 0,
                19..35 => 1,
                _ => 2,
            };
            assert_eq!(read(&file[..length]).len(), whole, "{length} bytes");
        }
    }

    proptest! {
        #![proptest_config(cases(2000))]

        #[test]
        fn what_is_read_of_a_foreign_file_is_its_beginning(
            file in foreign(vec![[record(b"one"), record(b""), record(b"three")].concat()]),
        ) {
            let mut again = Vec::new();
            let mut end = 0;
            for (after, message) in messages(&file) {
                again.extend(record(message));
                end = after;
            }
            prop_assert_eq!(&again[..], &file[..end]);
        }
    }
}
