//! `student-trainer record`: records the soft targets of a run ahead of it.

use std::path::PathBuf;

use soft_targets::{Encoding, Recording, ShardSpace, StoreError, Worker};
use teacher_pool::TeacherPool;
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

use super::{
    context::SupplyContext,
    epochs::SoftTargetEpochs,
    error::SoftTargetError,
    live::LiveTargets,
    recorder::{Progress, Recorder},
    recording_run::shards_to_record,
    run_reference::RunReference,
    unused_samples,
};
use crate::{
    config::RunConfig,
    events::NoticeSender,
    training_data::{DataError, TrainingData},
};

/// What to record, and with what.
pub struct RecordContext<'r> {
    /// The configuration of a run.
    pub config: &'r RunConfig,
    /// The worker whose share of the shards to record.
    pub worker: Worker,
    /// Gets what users should know.
    pub notices: &'r NoticeSender,
    /// Ends the recording.
    pub cancel: &'r CancellationToken,
    /// Runs the network traffic.
    pub runtime: &'r Handle,
}

/// The soft targets to record, and the space that they take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordingPlan {
    /// The worker that records.
    pub worker: Worker,
    /// Shards that it records, with those that are there.
    pub share: usize,
    /// Shards of the whole recording.
    pub shards: usize,
    /// The recording's folder or URL.
    pub folder: PathBuf,
    /// Views that the run uses.
    pub views: u32,
    /// Images of each view.
    pub images: u32,
    /// How their soft targets are stored.
    pub encoding: Encoding,
    /// Bytes of one image's soft targets.
    pub bytes_per_image: usize,
    /// Bytes of the whole recording still to be written, and bytes free in a folder.
    pub space: ShardSpace,
}

/// The part of a worker's share that is missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Work {
    /// Shards that are missing or damaged.
    pub shards: usize,
    /// Images in them.
    pub images: u64,
}

/// What a recording ahead of any run did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordingSummary {
    /// The recording's folder or URL.
    pub folder: PathBuf,
    /// Shards that this process recorded.
    pub recorded: usize,
    /// Shards of its share that were there, or that another process recorded meanwhile.
    pub skipped: usize,
    /// Shards that the recording still lacks.
    pub missing: usize,
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
    /// No teacher was found, none is left, or the bucket does not answer; the text names the endpoints or the object.
    #[error("{0}; run the same command again to record the missing shards")]
    Interrupted(SoftTargetError),
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
            error if error.is_temporary() => Self::Interrupted(error),
            error => Self::SoftTargets(error),
        }
    }
}

/// A teacher whose soft targets are recorded.
struct RecordedTeacher<'r> {
    context: SupplyContext<'r>,
    notices: NoticeSender,
    pool: TeacherPool,
    recording: Recording,
}

/// Records the soft targets that a run trains with, as far as they are the worker's share and not recorded yet, of one
/// teacher after the other. Connects to all of them first, and checks that the disk has space for all recordings. Calls
/// `planned` once for each, before its first batch, and `progress` after every batch.
///
/// # Errors
/// A configuration without teachers, folder or views; a full disk; lost teachers; cancellation. Complete
/// shards stay: the next call continues after them.
pub fn record(
    context: RecordContext<'_>,
    mut planned: impl FnMut(&RecordingPlan),
    mut progress: impl FnMut(Work, Progress),
) -> Result<Vec<RecordingSummary>, RecordError> {
    let RecordContext {
        config,
        worker,
        notices,
        cancel,
        runtime,
    } = context;
    config.can_record().map_err(RecordError::Config)?;
    let data = TrainingData::load(config)?;
    let reference = RunReference::default();
    let mut teachers = Vec::new();
    for teacher in config.all_teachers() {
        let context = SupplyContext {
            config,
            teacher,
            epochs: SoftTargetEpochs::all(config, teacher.position),
            teacher_before: None,
            train: &data.train,
            reference: reference.clone(),
            cancel,
            runtime,
        };
        let notices = match teacher.name {
            Some(_) => notices.about(&teacher.to_string()),
            None => notices.clone(),
        };
        let opened = RecordedTeacher::open(context, notices);
        teachers.push(opened.map_err(|error| error.of(teacher.name))?);
    }
    check_space(&teachers)?;
    let mut summaries = Vec::new();
    for teacher in &teachers {
        let recorded = teacher.record(worker, &mut planned, &mut progress);
        summaries.push(recorded.map_err(|error| error.of(teacher.context.teacher.name))?);
    }
    Ok(summaries)
}

/// Fails if a disk has too little space for all recordings on it. Before shards are read: recordings that are too large for the
/// disk may take too long to read.
fn check_space(teachers: &[RecordedTeacher<'_>]) -> Result<(), SoftTargetError> {
    let mut spaces = Vec::new();
    for teacher in teachers {
        let space = teacher.recording.estimate(teacher.views());
        let space = space.map_err(SoftTargetError::from);
        let space = space.map_err(|error| error.of(teacher.context.teacher.name))?;
        spaces.push((teacher.recording.place(), space));
    }
    Ok(ShardSpace::check_together(&spaces)?)
}

impl<'r> RecordedTeacher<'r> {
    /// Connects to the teacher of `context`, and opens its recording or creates it.
    fn open(context: SupplyContext<'r>, notices: NoticeSender) -> Result<Self, SoftTargetError> {
        let pool = context.connect(notices.clone())?;
        let recording = context.open_or_create(&pool)?;
        Ok(Self {
            context,
            notices,
            pool,
            recording,
        })
    }

    /// Number of views that the run uses.
    fn views(&self) -> u32 {
        self.context.views_needed(self.context.recorded_views())
    }

    fn record(
        &self,
        worker: Worker,
        planned: &mut impl FnMut(&RecordingPlan),
        progress: &mut impl FnMut(Work, Progress),
    ) -> Result<RecordingSummary, SoftTargetError> {
        let Self {
            context,
            notices,
            pool,
            recording,
        } = self;
        let lock = recording.lock()?;
        let views = self.views();
        let plan = RecordingPlan::new(recording, views, worker)?;
        planned(&plan);
        let faults = context.to_record(recording, recording.share(views, worker))?;
        let shards = shards_to_record(faults, notices);
        recording.space(&shards)?.check(recording.place())?;
        if !shards.is_empty() {
            unused_samples::report(context, notices);
        }
        let images = shards.iter().map(|id| recording.samples(id.shard).len());
        let work = Work {
            shards: shards.len(),
            images: images.sum::<usize>() as u64,
        };
        let recorder = Recorder {
            recording,
            source: context.train,
            input: context.input(),
            teachers: LiveTargets {
                pool,
                prefetch: context.prefetch(),
                fallback: None,
                // A recording keeps the teacher's order of classes.
                order: None,
            },
            batch_size: context.batch_size(),
            cancel: context.cancel,
        };
        let recorded = recorder.record(&shards, &lock, |done| progress(work, done))?;
        Ok(RecordingSummary {
            folder: plan.folder,
            recorded: recorded.here,
            skipped: plan.share - recorded.here,
            missing: recording.missing(views)?,
        })
    }
}

impl RecordingPlan {
    fn new(recording: &Recording, views: u32, worker: Worker) -> Result<Self, StoreError> {
        let space = recording.estimate(views)?;
        let identity = recording.identity();
        let classes = identity.images.classes as usize;
        Ok(Self {
            worker,
            share: recording.share(views, worker).count(),
            shards: recording.shards(views).count(),
            folder: recording.place().to_owned(),
            views,
            images: identity.images.samples,
            encoding: identity.encoding,
            bytes_per_image: identity.encoding.sample_bytes(classes).total(),
            space,
        })
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
