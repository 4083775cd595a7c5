//! A shard is accepted only if every byte is as expected.

use crate::Encoder;
use artifacts::manifest::TeacherIdentity;
use datasets::{Augmentation, View};
use proptest::{prelude::*, sample::Index, sample::select};
use test_support::damage::{cases, foreign, in_modest_memory};

use super::*;
use crate::{DrawSeeds, Encoding, RecordedImages, ViewSet};

pub(crate) fn identity(encoding: &str) -> RecordingIdentity {
    RecordingIdentity {
        teacher: TeacherIdentity {
            model_id: "ab".repeat(32),
            numerics: "f32 \"cpu\"".into(),
            probe_sha256: "cd".repeat(32),
        },
        images: RecordedImages {
            fingerprint: "ef".repeat(32),
            samples: 9,
            classes: 5,
        },
        views: ViewSet {
            seed: 1,
            augmentation: Augmentation {
                pad: 2,
                horizontal_flip: true,
                ..Augmentation::default()
            },
            input: vec![1, 28, 28],
            probe_sha256: Sha256::of(b"views"),
        },
        encoding: encoding.parse().unwrap(),
    }
}

/// The images of a shard.
const SAMPLES: Range<u32> = 4..8;

fn layout<'r>(identity: &'r RecordingIdentity, recording: &'r Sha256) -> ShardLayout<'r> {
    ShardLayout {
        identity,
        recording,
        id: ShardId { view: 1, shard: 1 },
        samples: SAMPLES,
    }
}

fn targets(encoding: Encoding) -> SoftTargets {
    let logits: Vec<f32> = (0..SAMPLES.len() * 5)
        .map(|i| ((i * 7) % 11) as f32)
        .collect();
    let view = View::Fixed { seed: 1, view: 1 };
    let seeds = DrawSeeds::of(encoding, view, SAMPLES);
    let targets = Encoder::default().encode_with_seeds(encoding, &logits, 5, &seeds);
    targets.unwrap()
}

const ENCODINGS: [&str; 5] = ["f32", "f16", "top-2", "top-2-f32", "sampled-3-t2"];

fn valid() -> Vec<Vec<u8>> {
    let file = |encoding| {
        let identity = identity(encoding);
        layout(&identity, &identity.id()).write(&targets(identity.encoding))
    };
    ENCODINGS.map(file).into()
}

proptest! {
    #![proptest_config(cases(1000))]

    #[test]
    fn only_the_very_bytes_of_a_shard_are_taken(
        encoding in select(&ENCODINGS[..]), file in foreign(valid()),
    ) {
        let identity = identity(encoding);
        let recording = identity.id();
        let layout = layout(&identity, &recording);
        let file = Bytes::from(file);
        match in_modest_memory(|| layout.read(&file)) {
            Ok(read) => {
                prop_assert_eq!(layout.write(&read), file);
                prop_assert_eq!(read, targets(identity.encoding));
            }
            Err(fault) => prop_assert!(!fault.to_string().is_empty()),
        }
    }

    #[test]
    fn no_flipped_bit_is_taken(
        (encoding, file) in select(ENCODINGS.into_iter().zip(valid()).collect::<Vec<_>>()),
        at in any::<Index>(), bit in 0..8u8,
    ) {
        let identity = identity(encoding);
        let recording = identity.id();
        let layout = layout(&identity, &recording);
        prop_assert!(layout.read(&file.clone().into()).is_ok());
        let mut flipped = file;
        let at = at.index(flipped.len());
        flipped[at] ^= 1 << bit;
        prop_assert!(layout.read(&flipped.into()).is_err(), "byte {}", at);
    }
}
