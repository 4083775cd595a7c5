//! Compressed bodies are restored or rejected, never changed.

use std::io::Write;

use flate2::{Compression, write::GzEncoder, write::ZlibEncoder};
use proptest::{collection::vec, prelude::*, sample::Index, sample::select};

use super::*;
use test_support::damage::{cases, foreign, in_modest_memory};

const MOST: usize = 10_000;
const ENCODINGS: [Encoding; 2] = [Encoding::Gzip, Encoding::Deflate];

fn compress(encoding: Encoding, bytes: &[u8]) -> Vec<u8> {
    match encoding {
        Encoding::Identity => bytes.to_vec(),
        Encoding::Gzip => {
            let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
            encoder.write_all(bytes).unwrap();
            encoder.finish().unwrap()
        }
        Encoding::Deflate => {
            let mut encoder = ZlibEncoder::new(Vec::new(), Compression::best());
            encoder.write_all(bytes).unwrap();
            encoder.finish().unwrap()
        }
    }
}

fn body() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        vec(any::<u8>(), 0..400),
        (any::<u8>(), 0..2 * MOST).prop_map(|(byte, length)| vec![byte; length]),
    ]
}

proptest! {
    #![proptest_config(cases(1000))]

    #[test]
    fn bodies_come_back_up_to_the_limit(body in body(), encoding in select(&ENCODINGS[..])) {
        let decompressed = encoding.decompress(&compress(encoding, &body), MOST);
        match decompressed {
            Ok(decompressed) => prop_assert_eq!(decompressed, body),
            Err(HttpError::BodyTooLarge { allowed: MOST }) => prop_assert!(body.len() > MOST),
            Err(error) => prop_assert!(false, "{}", error),
        }
    }

    #[test]
    fn a_flipped_bit_never_gives_another_body(
        body in vec(any::<u8>(), 1..400), encoding in select(&ENCODINGS[..]),
        at in any::<Index>(), bit in 0..8u8,
    ) {
        let mut sent = compress(encoding, &body);
        let at = at.index(sent.len());
        sent[at] ^= 1 << bit;
        // Time and system in the header of gzip do not affect the content.
        if let Ok(decompressed) = encoding.decompress(&sent, MOST) {
            prop_assert_eq!(decompressed, body, "byte {}", at);
        }
    }

    #[test]
    fn foreign_bodies_stay_within_the_limit(
        sent in foreign(ENCODINGS.map(|encoding| compress(encoding, &[7; 100_000])).into()),
        encoding in select(&ENCODINGS[..]),
    ) {
        if let Ok(decompressed) = in_modest_memory(|| encoding.decompress(&sent, MOST)) {
            prop_assert!(decompressed.len() <= MOST);
        }
    }
}
