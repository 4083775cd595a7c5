//! Exactly one message is accepted, in frames of any sizes.

use proptest::{collection::vec, prelude::*, test_runner::TestRunner};

use super::{tests::Pieces, *};
use test_support::damage::{cases, foreign};

const MOST: usize = 100;

/// The message that the bytes contain, if it is valid.
fn message(bytes: &[u8]) -> Option<&[u8]> {
    let (prefix, message) = bytes.split_first_chunk::<PREFIX>()?;
    let [flag, length @ ..] = *prefix;
    let length = u32::from_be_bytes(length) as usize;
    (flag == 0 && length == message.len() && length <= MOST).then_some(message)
}

#[test]
fn any_bytes_in_any_frames_are_one_message_or_refused() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    let valid = [0usize, 1, 50, MOST].map(|length| {
        let prefix = (length as u32).to_be_bytes();
        [&[0], &prefix[..], &vec![7; length]].concat()
    });
    let bytes = prop_oneof![
        proptest::sample::select(valid.to_vec()),
        foreign(valid.to_vec())
    ];
    let mut runner = TestRunner::new(cases(3000));
    let outcome = runner.run(&(bytes, vec(0..40usize, 1..6)), |(bytes, sizes)| {
        let (mut pieces, mut remaining) = (std::collections::VecDeque::new(), &bytes[..]);
        // At least one frame is not empty.
        for size in sizes.iter().copied().chain([1]).cycle() {
            let (piece, later) = remaining.split_at(remaining.len().min(size));
            pieces.push_back(Bytes::copy_from_slice(piece));
            remaining = later;
            if remaining.is_empty() {
                break;
            }
        }
        let read = runtime.block_on(read_message(Body::new(Pieces(pieces)), MOST));
        match (read, message(&bytes)) {
            (Ok(read), Some(expected)) => prop_assert_eq!(&read[..], expected),
            (Err(status), None) => prop_assert_ne!(status.code(), Code::Internal),
            (read, expected) => prop_assert!(false, "{:?} instead of {:?}", read, expected),
        }
        Ok(())
    });
    outcome.unwrap_or_else(|failure| panic!("{failure}"));
}
