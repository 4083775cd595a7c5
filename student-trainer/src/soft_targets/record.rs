//! Records the soft targets of a run ahead of it.

use std::path::PathBuf;

use soft_targets::Encoding;
use soft_targets::{Recording, Space};
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

use super::{
    LiveTargets, Progress, Recorder, SoftTargetEpochs, recording_run::to_record,
    supply::SupplyContext,
};
use crate::{
    config::RunConfig,
    events::NoticeSender,
    run::{RunError, TrainingData},
};

/// What a recording comes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordingPlan {
    /// The recording's folder.
    pub folder: PathBuf,
    /// Views that the run sees.
    pub views: u32,
    /// Images of each.
    pub images: u32,
    /// How their soft targets are stored.
    pub encoding: Encoding,
    /// Bytes of one image's soft targets.
    pub bytes_per_image: usize,
    /// What files take that are not there yet, and what is free.
    pub space: Space,
}

/// What is left to record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Work {
    /// Shards that are missing or damaged.
    pub shards: usize,
    /// Images in them.
    pub images: u64,
}

/// Records what is missing of the soft targets that `config` trains with. `planned` is told once, before the
/// first batch is asked for; `progress` after every batch. Gives the recording's folder.
///
/// # Errors
/// A configuration without teachers, folder or views; a full disk; lost teachers; cancellation. Shards that
/// are whole stay: the next call goes on after them.
pub fn record(
    config: &RunConfig,
    notices: &NoticeSender,
    cancel: &CancellationToken,
    runtime: &Handle,
    planned: impl FnOnce(&RecordingPlan),
    mut progress: impl FnMut(Work, Progress),
) -> Result<PathBuf, RunError> {
    config.can_record().map_err(RunError::CannotRecord)?;
    let data = TrainingData::load(config)?;
    let context = SupplyContext {
        config,
        epochs: SoftTargetEpochs::all(config),
        teacher_before: None,
        train: &data.train,
        cancel,
        runtime,
    };
    let pool = context
        .connect(notices.clone())
        .map_err(RunError::of_recording)?;
    let recording = context.open_or_create(&pool)?;
    let lock = recording.lock()?;
    let (_, _, views) = context.recordings();
    let views = context.views_needed(views);
    let estimate = recording.estimate(views)?;
    planned(&RecordingPlan::new(&recording, views, estimate));
    // Before anything is read: what is too large for the disk may also be too much to look through.
    estimate.check(recording.folder())?;
    let shards = to_record(recording.faults(views), |text| notices.notice(text));
    recording.space(&shards)?.check(recording.folder())?;
    let images = shards.iter().map(|id| recording.samples(id.shard).len());
    let work = Work {
        shards: shards.len(),
        images: images.sum::<usize>() as u64,
    };
    let recorder = Recorder {
        recording: &recording,
        dataset: &data.train,
        teachers: LiveTargets {
            pool: &pool,
            prefetch: context.prefetch(),
            fallback: None,
            // A recording holds what the teacher said, in the teacher's order.
            order: None,
        },
        batch_size: context.batch_size(),
        cancel,
    };
    recorder
        .record(&shards, &lock, |done| progress(work, done))
        .map_err(RunError::of_recording)?;
    Ok(recording.folder().to_owned())
}

impl RecordingPlan {
    fn new(recording: &Recording, views: u32, space: Space) -> Self {
        let identity = recording.identity();
        let classes = identity.images.classes as usize;
        Self {
            folder: recording.folder().to_owned(),
            views,
            images: identity.images.samples,
            encoding: identity.encoding,
            bytes_per_image: identity.encoding.sample_bytes(classes).total(),
            space,
        }
    }
}
