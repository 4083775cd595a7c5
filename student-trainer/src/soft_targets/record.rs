//! `student-trainer record`: records the soft targets of a run ahead of it.

use std::path::PathBuf;

use soft_targets::{Encoding, Recording, ShardSpace};
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

use super::{
    context::SupplyContext,
    epochs::SoftTargetEpochs,
    error::SoftTargetError,
    live::LiveTargets,
    recorder::{Progress, Recorder},
    recording_run::shards_to_record,
};
use crate::{
    config::RunConfig,
    events::NoticeSender,
    training_data::{DataError, TrainingData},
};

/// The soft targets to record, and the space that they take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordingPlan {
    /// The recording's folder.
    pub folder: PathBuf,
    /// Views that the run uses.
    pub views: u32,
    /// Images of each view.
    pub images: u32,
    /// How their soft targets are stored.
    pub encoding: Encoding,
    /// Bytes of one image's soft targets.
    pub bytes_per_image: usize,
    /// Bytes still to be written, and bytes free.
    pub space: ShardSpace,
}

/// The part of a recording that is missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Work {
    /// Shards that are missing or damaged.
    pub shards: usize,
    /// Images in them.
    pub images: u64,
}

/// Why a recording ahead of any run ended early.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// The configuration lacks something, or contradicts itself.
    #[error("soft targets cannot be recorded: {0}")]
    Config(String),
    /// The images cannot be used.
    #[error(transparent)]
    Data(#[from] DataError),
    /// No teacher was found, or none is left; the text names the endpoints.
    #[error("{0}; run the same command again to record the missing shards")]
    NoTeacher(SoftTargetError),
    /// The soft targets do not fit the data, or the recording cannot be used.
    #[error(transparent)]
    SoftTargets(SoftTargetError),
    /// The command was asked to stop.
    #[error("stopped; run the same command again to record the missing shards")]
    Stopped,
}

impl From<SoftTargetError> for RecordError {
    fn from(error: SoftTargetError) -> Self {
        match error {
            SoftTargetError::Cancelled => Self::Stopped,
            error if error.is_temporary() => Self::NoTeacher(error),
            error => Self::SoftTargets(error),
        }
    }
}

/// Records the soft targets that `config` trains with and that are not recorded yet, of one teacher after the other.
/// Calls `planned` once for each, before its first request, and `progress` after every batch. Returns the folders of
/// the recordings.
///
/// # Errors
/// A configuration without teachers, folder or views; a full disk; lost teachers; cancellation. Complete
/// shards stay: the next call continues after them.
pub fn record(
    config: &RunConfig,
    notices: &NoticeSender,
    cancel: &CancellationToken,
    runtime: &Handle,
    mut planned: impl FnMut(&RecordingPlan),
    mut progress: impl FnMut(Work, Progress),
) -> Result<Vec<PathBuf>, RecordError> {
    config.can_record().map_err(RecordError::Config)?;
    let data = TrainingData::load(config)?;
    let mut folders = Vec::new();
    for teacher in config.all_teachers() {
        let context = SupplyContext {
            config,
            teacher,
            epochs: SoftTargetEpochs::all(config, teacher.position),
            teacher_before: None,
            train: &data.train,
            cancel,
            runtime,
        };
        let notices = match teacher.name {
            Some(_) => notices.about(&teacher.to_string()),
            None => notices.clone(),
        };
        let recorded = record_teacher(&context, &notices, &mut planned, &mut progress);
        folders.push(recorded.map_err(|error| error.of(teacher.name))?);
    }
    Ok(folders)
}

/// Records the soft targets of one teacher.
fn record_teacher(
    context: &SupplyContext<'_>,
    notices: &NoticeSender,
    planned: &mut impl FnMut(&RecordingPlan),
    progress: &mut impl FnMut(Work, Progress),
) -> Result<PathBuf, SoftTargetError> {
    let pool = context.connect(notices.clone())?;
    let recording = context.open_or_create(&pool)?;
    let lock = recording.lock()?;
    let (_, _, views) = context.recordings();
    let views = context.views_needed(views);
    let estimate = recording.estimate(views)?;
    planned(&RecordingPlan::new(&recording, views, estimate));
    // Before the shards are read: a recording that is too large for the disk may take too long to read.
    estimate.check(recording.folder())?;
    let shards = shards_to_record(recording.faults(views), notices);
    recording.space(&shards)?.check(recording.folder())?;
    let images = shards.iter().map(|id| recording.samples(id.shard).len());
    let work = Work {
        shards: shards.len(),
        images: images.sum::<usize>() as u64,
    };
    let recorder = Recorder {
        recording: &recording,
        source: context.train,
        input: context.input(),
        teachers: LiveTargets {
            pool: &pool,
            prefetch: context.prefetch(),
            fallback: None,
            // A recording keeps the teacher's order of classes.
            order: None,
        },
        batch_size: context.batch_size(),
        cancel: context.cancel,
    };
    recorder.record(&shards, &lock, |done| progress(work, done))?;
    Ok(recording.folder().to_owned())
}

impl RecordingPlan {
    fn new(recording: &Recording, views: u32, space: ShardSpace) -> Self {
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

#[cfg(test)]
mod tests {
    use teacher_pool::PoolError;

    use super::*;

    #[test]
    fn a_recording_that_ends_early_says_that_it_continues_from_its_shards() {
        for error in [PoolError::Cancelled, PoolError::Closed] {
            let text = RecordError::from(SoftTargetError::from(error)).to_string();
            let how = "run the same command again to record the missing shards";
            assert!(text.contains(how), "{text}");
            assert!(!text.contains("checkpoint"), "{text}");
        }
    }
}
