//! All that a run needs for its soft targets, as its configuration says.

use std::{collections::BTreeSet, path::Path};

use artifacts::manifest::TeacherIdentity;
use common::digest::Sha256;
use datasets::Dataset;
use soft_targets::{ClassMatch, ClassOrder, Encoding};
use soft_targets::{
    RecordedImages, Recording, RecordingIdentity, Recordings, Replay, ViewSet, WantedRecording,
};
use teacher_pool::{BatchSize, ExpectedTeacher, FEWEST_IMAGES, PoolError, TeacherPool};
use tokio_util::sync::CancellationToken;

use super::{
    LiveTargets, RecordedTargets, SoftTargetEpochs, SoftTargetSource, live,
    recording_run::RecordingRun,
};
use crate::{
    config::{ClassNames, Fallback, FixedViews, RunConfig, SoftTargetsConfig, SoftTargetsMode},
    events::NoticeSender,
    pool_observer::RunPoolObserver,
    run::RunError,
};

/// Where a run's soft targets come from.
pub struct SoftTargetSupply<'r> {
    prefetch: usize,
    way: Way<'r>,
}

enum Way<'r> {
    /// No phase needs any.
    None,
    Live {
        pool: TeacherPool,
        fallback: Option<live::Fallback>,
        order: Option<ClassOrder>,
    },
    Recorded(Box<RecordedTargets>),
    Record(Box<RecordingRun<'r>>),
}

/// What a run is, as far as its soft targets go.
pub struct SupplyContext<'r> {
    /// What the run was told.
    pub config: &'r RunConfig,
    /// The epochs that are left to be trained with soft targets.
    pub epochs: SoftTargetEpochs,
    /// The teacher that a resumed run had before.
    pub teacher_before: Option<&'r TeacherIdentity>,
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
            _ if context.epochs.is_empty() => Way::None,
            SoftTargetsMode::Live => context.live(&notices)?,
            SoftTargetsMode::Recorded => Way::Recorded(Box::new(context.recorded(&notices)?)),
            SoftTargetsMode::Record => {
                let pool = context.connect(notices.clone())?;
                Way::Record(Box::new(RecordingRun::prepare(&context, pool, notices)?))
            }
        };
        Ok(Self {
            prefetch: context.prefetch(),
            way,
        })
    }

    /// Whose soft targets they are, where there are any.
    pub fn teacher(&self) -> Option<&TeacherIdentity> {
        match &self.way {
            Way::None => None,
            Way::Live { pool, .. } => Some(pool.identity()),
            Way::Recorded(recorded) => Some(recorded.teacher()),
            Way::Record(run) => Some(run.recorded().teacher()),
        }
    }

    /// Digest of the order into which the classes are brought, where it is not the data's already.
    pub fn class_order(&self) -> Option<Sha256> {
        let order = match &self.way {
            Way::None => None,
            Way::Live { order, .. } => order.as_ref(),
            Way::Recorded(recorded) => recorded.order(),
            Way::Record(run) => run.recorded().order(),
        };
        order.map(ClassOrder::digest)
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
            Way::Live {
                pool,
                fallback,
                order,
            } => train(Some(SoftTargetSource::Live(LiveTargets {
                pool,
                prefetch,
                fallback: fallback.as_ref(),
                order: order.as_ref(),
            }))),
            Way::Recorded(recorded) => train(Some(SoftTargetSource::Recorded(recorded))),
            Way::Record(run) => {
                run.while_recording(|| train(Some(SoftTargetSource::Recorded(run.recorded()))))
            }
        }
    }
}

impl<'r> SupplyContext<'r> {
    /// Connects to teachers. If there is none, the recording takes over that replaces them.
    fn live(&self, notices: &NoticeSender) -> Result<Way<'r>, RunError> {
        let falls_back = self.config.fallback() == Fallback::Recorded;
        let pool = match self.connect(notices.clone()) {
            Err(RunError::Teacher {
                error: error @ PoolError::NoTeacher { .. },
                ..
            }) if falls_back => {
                let recorded = self.recorded(notices);
                let recorded =
                    recorded.map_err(|wrong| wrong.in_place_of_teachers(error.clone()))?;
                notices.notice(format!("{error}; going on from recorded soft targets"));
                return Ok(Way::Recorded(Box::new(recorded)));
            }
            pool => pool?,
        };
        let fallback = if falls_back {
            let recorded = self.as_far_as_recorded(pool.identity(), notices)?;
            Some(live::Fallback::new(recorded, notices.clone()))
        } else {
            None
        };
        Ok(Way::Live {
            order: self.class_order(Some(pool.class_names()), "the teacher", notices)?,
            pool,
            fallback,
        })
    }

    /// Connects to the teachers of the configuration; a resumed run's to those that it had before.
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
            class_names: match self.config.class_names() {
                ClassNames::Match => Some(self.train.class_names().to_vec()),
                ClassNames::Ignore => None,
            },
            largest_batch: self.largest_batch(),
            identity: self.teacher_before.cloned(),
        };
        Ok(TeacherPool::connect(
            config,
            expected,
            RunPoolObserver::new(notices),
            self.cancel,
            self.runtime,
        )?)
    }

    /// Views that the whole run sees, from the first: no more than it has epochs.
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

    /// The largest batch that teachers are asked for.
    fn largest_batch(&self) -> BatchSize {
        let views = self.config.soft_targets.as_ref();
        let views = views.and_then(SoftTargetsConfig::fixed_views);
        let phases = self.config.phases.iter().enumerate();
        let distilling = phases.filter(|(_, phase)| phase.loss.needs_soft_targets());
        let largest = distilling.max_by_key(|(_, phase)| phase.batch_size);
        let (index, images) = largest.map_or((0, 1), |(index, phase)| (index, phase.batch_size));
        BatchSize {
            // Small batches of fixed views are filled up.
            images: images.max(views.map_or(1, |_| FEWEST_IMAGES)),
            key: format!("phases[{index}].batch_size"),
        }
    }

    /// What brings the classes `names`, those of `whose` logits, into the order of the data, where they are
    /// in another one.
    ///
    /// # Errors
    /// [`RunError::OtherClasses`].
    pub(super) fn class_order(
        &self,
        names: Option<&[String]>,
        whose: &str,
        notices: &NoticeSender,
    ) -> Result<Option<ClassOrder>, RunError> {
        if self.config.class_names() == ClassNames::Ignore {
            return Ok(None);
        }
        let found = names.map_or(Ok(ClassMatch::Unnamed), |names| {
            ClassMatch::of(names, self.train.class_names())
        });
        match found {
            Ok(ClassMatch::Same) => Ok(None),
            Ok(ClassMatch::Unnamed) => {
                notices.notice(format!(
                    "warning: {whose} has no class names, or the data have none: only the number of classes was \
                     compared"
                ));
                Ok(None)
            }
            Ok(ClassMatch::Reordered(order)) => {
                notices.notice(format!(
                    "{whose} has the classes of the data in another order; the logits are brought into the \
                     order of the data"
                ));
                Ok(Some(order))
            }
            Err(differ) => Err(RunError::OtherClasses {
                whose: whose.to_owned(),
                differ,
            }),
        }
    }

    /// Batches that may be with the teachers at a time.
    pub(super) fn prefetch(&self) -> usize {
        self.config.teacher.as_ref().map_or(1, |pool| pool.prefetch)
    }

    fn view_set(&self, views: FixedViews) -> ViewSet {
        ViewSet::of(self.train, self.config.data.augmentation, views.seed)
    }

    /// The recording that the run makes with the teachers of `pool`.
    pub(super) fn open_or_create(&self, pool: &TeacherPool) -> Result<Recording, RunError> {
        let (settings, folder, views) = self.recordings();
        let identity = RecordingIdentity {
            teacher: pool.identity().clone(),
            images: RecordedImages::of(self.train),
            views: self.view_set(views),
            encoding: self.encoding(),
        };
        let samples = settings.samples_per_shard;
        let names = pool.class_names();
        let recording = Recording::open_or_create(folder, &identity, samples, names)?;
        match recording.class_names() {
            Some(recorded)
                if recorded != names && self.config.class_names() == ClassNames::Match =>
            {
                Err(RunError::RenamedClasses(recording.folder().to_owned()))
            }
            _ => Ok(recording),
        }
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

    /// A recording with all that the rest of the run needs.
    fn recorded(&self, notices: &NoticeSender) -> Result<RecordedTargets, RunError> {
        let (recorded, views) = self.fitting_recording(None, notices)?;
        recorded.open_all(&views)?;
        notices.notice(format!("{recorded} holds the {} views needed", views.len()));
        Ok(recorded)
    }

    /// A recording of `teacher`, whose views may be missing.
    fn as_far_as_recorded(
        &self,
        teacher: &TeacherIdentity,
        notices: &NoticeSender,
    ) -> Result<RecordedTargets, RunError> {
        let (recorded, views) = self.fitting_recording(Some(teacher), notices)?;
        match recorded.open_all(&views) {
            Ok(()) => notices.notice(format!("{recorded} holds the {} views needed", views.len())),
            Err(error) => notices.notice(format!(
                "{error}; without teachers the run goes on as far as the recording reaches"
            )),
        }
        Ok(recorded)
    }

    /// A recording that fits the run, and `teacher` where one is connected; and the views that the rest
    /// of the run sees, which are not opened yet.
    fn fitting_recording(
        &self,
        teacher: Option<&TeacherIdentity>,
        notices: &NoticeSender,
    ) -> Result<(RecordedTargets, BTreeSet<u32>), RunError> {
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
        let recordings = Recordings::list(folder)?;
        for damaged in &recordings.damaged {
            notices.notice(format!("left out: {damaged}"));
        }
        let recording = recordings.find(&wanted, settings.teacher.as_deref())?;
        let whose = format!("the recording {}", recording.folder().display());
        let order = self.class_order(recording.class_names(), &whose, notices)?;
        let replay = Replay::new(recording, self.views_needed(views));
        Ok((
            RecordedTargets::new(replay, order),
            self.epochs.views(views),
        ))
    }
}
