//! A small recording.

use std::path::Path;

use artifacts::manifest::TeacherIdentity;
use common::digest::Sha256;
use datasets::{Augmentation, View};
use soft_targets::{DrawSeeds, Encoder, Encoding, SoftTargets};
use soft_targets::{RecordedImages, Recording, RecordingIdentity, ShardId, ViewSet};

pub const CLASSES: usize = 5;
pub const SAMPLES: u32 = 10;
pub const PER_SHARD: u32 = 4;
pub const VIEWS: u32 = 2;

pub fn identity(encoding: &str) -> RecordingIdentity {
    RecordingIdentity {
        teacher: TeacherIdentity {
            model_id: "ab".repeat(32),
            numerics: "f32 \"cpu\"".into(),
            probe_sha256: "cd".repeat(32),
        },
        images: RecordedImages {
            fingerprint: "ef".repeat(32),
            samples: SAMPLES,
            classes: CLASSES as u32,
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

/// Returns the class names.
pub fn names() -> Vec<String> {
    (0..CLASSES).map(|class| format!("class {class}")).collect()
}

/// Returns logits that differ between images, views and classes.
pub fn logits(view: u32, sample: u32) -> Vec<f32> {
    let class = |class: usize| (sample * 7 + view * 100) as f32 / 8.0 - ((class * 3) % 5) as f32;
    (0..CLASSES).map(class).collect()
}

pub fn targets(encoding: Encoding, view: u32, samples: impl Iterator<Item = u32>) -> SoftTargets {
    let samples: Vec<u32> = samples.collect();
    let logits: Vec<f32> = samples
        .iter()
        .flat_map(|sample| logits(view, *sample))
        .collect();
    let view = View::Fixed {
        seed: 1,
        view: view.into(),
    };
    let seeds = DrawSeeds::of(encoding, view, samples);
    Encoder::default()
        .encode_with_seeds(encoding, &logits, CLASSES, &seeds)
        .unwrap()
}

/// Starts a recording below `store`.
pub fn create(store: &Path, identity: &RecordingIdentity) -> Recording {
    Recording::open_or_create(store, identity, PER_SHARD, &names()).unwrap()
}

pub fn write(recording: &Recording, id: ShardId) {
    let encoding = recording.identity().encoding;
    let lock = recording.lock().unwrap();
    let targets = targets(encoding, id.view, recording.samples(id.shard));
    recording.write(id, &targets, &lock).unwrap();
}

/// Writes a complete recording below `store`.
pub fn record(store: &Path, identity: &RecordingIdentity) -> Recording {
    let recording = create(store, identity);
    let shards: Vec<_> = recording.shards(VIEWS).collect();
    shards.into_iter().for_each(|id| write(&recording, id));
    recording
}
