//! Message boundaries do not depend on the pieces in which the bytes arrive.

use proptest::{collection::vec, prelude::*};

use super::*;
use test_support::damage::{cases, foreign};

/// Returns the ends of the messages in `bytes`, and whether an incomplete message follows.
fn ends(bytes: &[u8]) -> (Vec<usize>, bool) {
    let (mut ends, mut start) = (Vec::new(), 0);
    while let Some(length) = bytes.get(start + 1..start + PREFIX) {
        let length = u32::from_be_bytes(length.try_into().unwrap()) as usize;
        if bytes.len() - start - PREFIX < length {
            break;
        }
        start += PREFIX + length;
        ends.push(start);
    }
    (ends, start < bytes.len())
}

proptest! {
    #![proptest_config(cases(3000))]

    #[test]
    fn any_bytes_in_any_pieces_end_where_their_lengths_say(
        bytes in foreign(vec![[0, 0, 0, 0, 0, 1, 0, 0, 0, 3, 7, 7, 7, 0, 0, 0, 1, 0].repeat(3)]),
        pieces in vec(0..9usize, 1..20),
    ) {
        let (mut framing, mut arrived, mut remaining) = (Framing::default(), 0, &bytes[..]);
        for piece in pieces.iter().cycle().take(10_000) {
            let (data, later) = remaining.split_at(remaining.len().min(*piece));
            let before = arrived;
            (arrived, remaining) = (arrived + data.len(), later);
            let (ends, within) = ends(&bytes[..arrived]);
            let ended = ends.iter().any(|end| *end > before);
            prop_assert_eq!(framing.follow(data), ended, "{} to {}", before, arrived);
            prop_assert_eq!(framing.is_within_message(), within, "at {}", arrived);
            if remaining.is_empty() {
                break;
            }
        }
    }
}
