//! All that a run needs for its soft targets, as its configuration says.

use std::{collections::BTreeMap, path::Path, thread, time::Instant};

use common::{manifest::TeacherIdentity, soft_targets::Encoding};
use datasets::Dataset;
use soft_targets::{
    Fault, RecordedImages, Recording, RecordingIdentity, RecordingLock, Replay, ShardFault,
    ShardId, ViewSet, WantedRecording,
};
use tokio_util::sync::CancellationToken;

use super::{Gone, LiveTargets, RecordedTargets, Recorder, SoftTargetSource, Substitute};
use crate::{
    config::{FixedViews, RunConfig, SoftTargetsConfig, SoftTargetsMode, WhenGone},
    events::NoticeSender,
    pool::{ExpectedTeacher, PoolError, TeacherPool},
    run::RunError,
};

/// Where a run's soft targets come from.
pub struct SoftTargetSupply<'r> {
    cancel: &'r CancellationToken,
    notices: NoticeSender,
    prefetch: usize,
    way: Way<'r>,
}

enum Way<'r> {
    /// No phase needs any.
    None,
    Live {
        pool: TeacherPool,
        when_gone: Option<Gone>,
    },
    Recorded(Box<RecordedTargets>),
    Record(Box<RecordingRun<'r>>),
}

/// A recording that is made while the run goes on.
struct RecordingRun<'r> {
    pool: TeacherPool,
    recording: Recording,
    lock: RecordingLock,
    /// Shards to record, by view.
    missing: BTreeMap<u32, Vec<ShardId>>,
    views: u32,
    recorded: RecordedTargets,
    dataset: &'r Dataset,
    batch_size: usize,
}

/// What a run is, as far as its soft targets go.
#[derive(Clone, Copy)]
pub struct SupplyContext<'r> {
    /// What the run was told.
    pub config: &'r RunConfig,
    /// Whether a phase that is still to be done needs soft targets.
    pub needed: bool,
    /// Images trained on.
    pub train: &'r Dataset,
    /// Ends waiting.
    pub cancel: &'r CancellationToken,
    /// Network traffic runs here.
    pub runtime: &'r tokio::runtime::Handle,
}

impl<'r> SoftTargetSupply<'r> {
    /// Connects to teachers, or opens a recording and checks it.
    ///
    /// # Errors
    /// No teacher; no recording that fits, or one with shards that cannot be used; too little space for
    /// one.
    pub fn prepare(context: SupplyContext<'r>, notices: NoticeSender) -> Result<Self, RunError> {
        let config = context.config;
        let mode = config.soft_targets.as_ref().map(|targets| targets.mode);
        let way = match mode.unwrap_or_default() {
            _ if !context.needed => Way::None,
            SoftTargetsMode::Live => context.live(&notices)?,
            SoftTargetsMode::Recorded => Way::Recorded(context.recorded(None, &notices)?),
            SoftTargetsMode::Record => {
                let pool = context.connect(notices.clone())?;
                Way::Record(Box::new(RecordingRun::prepare(context, pool, &notices)?))
            }
        };
        Ok(Self {
            cancel: context.cancel,
            notices,
            prefetch: config.teacher.as_ref().map_or(1, |pool| pool.prefetch),
            way,
        })
    }

    /// Whose soft targets they are, where there are any.
    pub fn teacher(&self) -> Option<&TeacherIdentity> {
        match &self.way {
            Way::None => None,
            Way::Live { pool, .. } => Some(pool.identity()),
            Way::Recorded(recorded) => Some(recorded.teacher()),
            Way::Record(run) => Some(run.recorded.teacher()),
        }
    }

    /// Trains with these soft targets. What is missing is recorded meanwhile, where that is asked for.
    ///
    /// # Errors
    /// Those of `train`.
    pub fn while_training<T>(
        &self,
        train: impl FnOnce(Option<SoftTargetSource<'_>>) -> Result<T, RunError>,
    ) -> Result<T, RunError> {
        let prefetch = self.prefetch;
        match &self.way {
            Way::None => train(None),
            Way::Live { pool, when_gone } => train(Some(SoftTargetSource::Live(LiveTargets {
                pool,
                prefetch,
                when_gone: when_gone.as_ref(),
            }))),
            Way::Recorded(recorded) => train(Some(SoftTargetSource::Recorded(recorded))),
            Way::Record(run) => {
                let stop = self.cancel.child_token();
                let source = SoftTargetSource::Recorded(&run.recorded);
                thread::scope(|scope| {
                    // Also when training fails or panics: the scope waits for the recorder.
                    let _stop = stop.clone().drop_guard();
                    scope.spawn(|| run.recorded.end(run.record(prefetch, &self.notices, &stop)));
                    train(Some(source))
                })
            }
        }
    }
}

impl<'r> SupplyContext<'r> {
    /// Teachers, and what takes their place when they are gone.
    fn live(&self, notices: &NoticeSender) -> Result<Way<'r>, RunError> {
        let when_gone = self
            .config
            .teacher
            .as_ref()
            .map(|teacher| teacher.when_gone);
        let when_gone = when_gone.unwrap_or_default();
        let pool = match self.connect(notices.clone()) {
            Ok(pool) => pool,
            Err(RunError::Teacher {
                error: error @ PoolError::NoTeacher { .. },
                ..
            }) if when_gone == WhenGone::RecordedTargets => {
                notices.notice(format!("{error}; going on from recorded soft targets"));
                return Ok(Way::Recorded(self.recorded(None, notices)?));
            }
            Err(error) => return Err(error),
        };
        let substitute = match when_gone {
            WhenGone::Fail => None,
            WhenGone::RecordedTargets => {
                let recorded = self.recorded(Some(pool.identity()), notices)?;
                Some(Substitute::Recorded(recorded))
            }
            WhenGone::HardLabels => Some(Substitute::HardLabels),
        };
        Ok(Way::Live {
            pool,
            when_gone: substitute.map(|substitute| Gone::new(substitute, notices.clone())),
        })
    }

    /// Connects to the teachers of the configuration.
    pub(super) fn connect(&self, notices: NoticeSender) -> Result<TeacherPool, RunError> {
        // Holds: a checked configuration that needs teachers has some.
        let config = self
            .config
            .teacher
            .clone()
            .expect("teachers are configured");
        let expected = ExpectedTeacher {
            input_shape: self.train.shape(),
            classes: self.train.classes(),
        };
        Ok(TeacherPool::connect(
            config,
            expected,
            notices,
            self.cancel,
            self.runtime,
        )?)
    }

    /// Views that the run sees: no more than it has epochs.
    pub(super) fn views_needed(&self, views: FixedViews) -> u32 {
        let phases = self.config.phases.iter();
        let distilling = phases.filter(|phase| phase.loss.needs_soft_targets());
        let epochs = distilling.map(|phase| phase.epochs).max().unwrap_or(0);
        views.count.min(u32::try_from(epochs).unwrap_or(u32::MAX))
    }

    /// Images a request of a recorder: as many as the first phase with soft targets has in a batch.
    pub(super) fn batch_size(&self) -> usize {
        let mut phases = self.config.phases.iter();
        let distilling = phases.find(|phase| phase.loss.needs_soft_targets());
        distilling.map_or(128, |phase| phase.batch_size)
    }

    fn view_set(&self, views: FixedViews) -> ViewSet {
        ViewSet::of(self.train, self.config.data.augmentation, views.seed)
    }

    /// The recording that the run makes with `teacher`.
    pub(super) fn open_or_create(&self, teacher: &TeacherIdentity) -> Result<Recording, RunError> {
        let (settings, folder, views) = self.recordings();
        let identity = RecordingIdentity {
            teacher: teacher.clone(),
            images: RecordedImages::of(self.train),
            views: self.view_set(views),
            encoding: self.encoding(),
        };
        let samples = settings.samples_per_shard;
        Ok(Recording::open_or_create(folder, &identity, samples)?)
    }

    fn encoding(&self) -> Encoding {
        let teacher = self.config.teacher.as_ref();
        teacher.map_or(Encoding::F32, |teacher| teacher.encoding)
    }

    pub(super) fn recordings(&self) -> (&'r SoftTargetsConfig, &'r Path, FixedViews) {
        let settings = self.config.soft_targets.as_ref();
        let found = settings.and_then(|settings| Some((settings, settings.recordings()?)));
        // Holds: a checked configuration that records or replays has both.
        let (settings, (folder, views)) = found.expect("folder and views are configured");
        (settings, folder, views)
    }

    /// A whole recording that fits the run, and `teacher` where one is connected.
    fn recorded(
        &self,
        teacher: Option<&TeacherIdentity>,
        notices: &NoticeSender,
    ) -> Result<Box<RecordedTargets>, RunError> {
        let (settings, folder, views) = self.recordings();
        let wanted = WantedRecording {
            images: &RecordedImages::of(self.train),
            views: &self.view_set(views),
            // What takes the place of live targets must be encoded as they are.
            encoding: match self.config.soft_targets_mode() {
                SoftTargetsMode::Live => Some(self.encoding()),
                SoftTargetsMode::Record | SoftTargetsMode::Recorded => settings.encoding,
            },
            teacher,
        };
        let recording = Recording::find(folder, &wanted, settings.teacher.as_deref())?;
        let needed = self.views_needed(views);
        notices.notice(format!(
            "the recording {} is whole: {needed} views as {}, from teacher {:.12}",
            recording.folder().display(),
            recording.identity().encoding,
            recording.identity().teacher.model_id
        ));
        let recorded = RecordedTargets::whole(Replay::new(recording, needed), needed)?;
        Ok(Box::new(recorded))
    }
}

/// The shards of `faults`; people are told of those that were there.
pub(super) fn to_record(faults: Vec<ShardFault>, mut tell: impl FnMut(String)) -> Vec<ShardId> {
    let mut shards = Vec::new();
    for fault in faults {
        if fault.fault != Fault::Missing {
            tell(format!("{fault}; it is recorded again"));
        }
        shards.push(fault.id);
    }
    shards
}

impl<'r> RecordingRun<'r> {
    fn prepare(
        context: SupplyContext<'r>,
        pool: TeacherPool,
        notices: &NoticeSender,
    ) -> Result<Self, RunError> {
        let recording = context.open_or_create(pool.identity())?;
        let lock = recording.lock()?;
        let (_, _, views) = context.recordings();
        let views = context.views_needed(views);
        recording.estimate(views)?.check(recording.folder())?;
        let shards = to_record(recording.faults(views), |text| notices.notice(text));
        recording.space(&shards)?.check(recording.folder())?;
        let mut missing: BTreeMap<u32, Vec<ShardId>> = BTreeMap::new();
        for id in shards {
            missing.entry(id.view).or_default().push(id);
        }
        Ok(Self {
            recorded: RecordedTargets::growing(Replay::new(recording.clone(), views)),
            pool,
            recording,
            lock,
            missing,
            views,
            dataset: context.train,
            batch_size: context.batch_size(),
        })
    }

    fn record(
        &self,
        prefetch: usize,
        notices: &NoticeSender,
        stop: &CancellationToken,
    ) -> Result<(), RunError> {
        let recorder = Recorder {
            recording: &self.recording,
            dataset: self.dataset,
            teachers: LiveTargets {
                pool: &self.pool,
                prefetch,
                when_gone: None,
            },
            batch_size: self.batch_size,
            cancel: stop,
        };
        for view in 0..self.views {
            if let Some(shards) = self.missing.get(&view) {
                let started = Instant::now();
                recorder.record(shards, &self.lock, |_| {})?;
                notices.notice(format!(
                    "recorded view {} of {}: {} shards in {:.1} s",
                    view + 1,
                    self.views,
                    shards.len(),
                    started.elapsed().as_secs_f64()
                ));
            }
            self.recorded.finish_view(view)?;
        }
        Ok(())
    }
}
