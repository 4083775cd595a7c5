//! Arbitrary bytes are rejected as a checkpoint, or give exactly the state that was written.

use std::fs;

use proptest::prelude::*;

use super::{
    tests::{checkpoint, network},
    *,
};
use test_support::damage::{cases, foreign, in_modest_memory};

fn file(checkpoint: &Checkpoint) -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("c.safetensors");
    checkpoint.write(&file).unwrap();
    fs::read(file).unwrap()
}

proptest! {
    #![proptest_config(cases(200))]

    #[test]
    fn sums_and_weights_come_back_to_the_last_bit(
        step in any::<u64>(), score in proptest::option::of(0.0..1.0f64),
        loss in any::<f64>().prop_filter("the engine stops if a loss is not finite", |loss| loss.is_finite()),
    ) {
        let mut written = checkpoint(step, score);
        written.run.seconds = loss;
        written.phase.progress.seconds = loss / 3.0;
        let read = Checkpoint::parse(&file(&written), &network()).unwrap();
        prop_assert_eq!(read.run.seconds.to_bits(), loss.to_bits());
        prop_assert_eq!(read, written);
    }
}

proptest! {
    #![proptest_config(cases(2000))]

    #[test]
    fn a_foreign_checkpoint_is_refused_or_the_very_state(
        bytes in foreign(vec![file(&checkpoint(7, None))]),
    ) {
        if let Ok(read) = in_modest_memory(|| Checkpoint::parse(&bytes, &network())) {
            prop_assert_eq!(read, checkpoint(7, None));
        }
    }
}
