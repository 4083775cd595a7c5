//! A run's settings for its soft targets, and the teachers or recordings that fit them.

use std::collections::BTreeSet;

use artifacts::manifest::TeacherIdentity;
use datasets::{SampleKind, Source, Subset};
use networks::Shape;
use soft_targets::{
    ClassMatch, ClassOrder, DataReference, Encoding, RecordedImages, Recording, RecordingIdentity,
    RecordingStore, Replay, ShardFault, ShardId, StoreError, ViewSet, WantedRecording,
};
use teacher_pool::{BatchContent, BatchSize, ExpectedTeacher, MIN_REQUEST_IMAGES, TeacherPool};
use tensors::{DataType, Dimension, Dimensions, TensorSpec};
use tokio_util::sync::CancellationToken;

use super::{
    epochs::SoftTargetEpochs, error::SoftTargetError, recorded::RecordedTargets,
    run_reference::RunReference,
};
use crate::{
    config::{
        ClassNames, ConfiguredTeacher, FixedViews, PhaseConfig, RunConfig, SoftTargetsConfig,
        SoftTargetsMode,
    },
    events::NoticeSender,
    pool_observer::RunPoolObserver,
};

/// The parts of a run that the soft targets of one of its teachers depend on.
pub struct SupplyContext<'r> {
    /// The run's configuration.
    pub config: &'r RunConfig,
    /// The teacher.
    pub teacher: ConfiguredTeacher<'r>,
    /// The epochs that still need its soft targets.
    pub epochs: SoftTargetEpochs,
    /// The teacher that a resumed run used before.
    pub teacher_before: Option<&'r TeacherIdentity>,
    /// The training samples.
    pub train: &'r Subset,
    /// The reference to them, which the teachers of the run share.
    pub reference: RunReference,
    /// Ends waiting.
    pub cancel: &'r CancellationToken,
    /// Runs the network traffic.
    pub runtime: &'r tokio::runtime::Handle,
}

impl<'r> SupplyContext<'r> {
    /// Connects to the configured teachers. A resumed run only accepts the teacher that it used before.
    pub(super) fn connect(&self, notices: NoticeSender) -> Result<TeacherPool, SoftTargetError> {
        // Holds: a validated configuration that needs teachers names some.
        let config = self.teacher.pool.expect("teachers are configured").clone();
        let expected = ExpectedTeacher {
            input: self.teacher_input(),
            classes: self.config.network.classes,
            class_names: match self.config.class_names() {
                ClassNames::Match => Some(self.train.class_names().to_vec()),
                ClassNames::Ignore => None,
            },
            largest_batch: self.largest_batch(),
            identity: self.teacher_before.cloned(),
            data: match config.batches {
                BatchContent::Auto => Some(self.reference.get(|| self.data_reference())?),
                BatchContent::Pixels => None,
            },
        };
        Ok(TeacherPool::connect(
            config,
            expected,
            RunPoolObserver::new(notices),
            self.cancel,
            self.runtime,
        )?)
    }

    fn is_used_by(&self, phase: &PhaseConfig) -> bool {
        self.config.phase_uses(phase, self.teacher.position)
    }

    /// The run's samples, for teachers that have them too. All phases with soft targets train on all of them.
    fn data_reference(&self) -> Result<DataReference, SoftTargetError> {
        let data = &self.config.data;
        Ok(DataReference::of(
            self.train,
            data.validation_samples,
            data.train_samples,
            data.augmentation,
            &self.input().dimensions(),
        )?)
    }

    /// Number of views that the whole run uses, from the first: no more than it has epochs.
    pub(super) fn views_needed(&self, views: FixedViews) -> u32 {
        let phases = self.config.phases.iter();
        let distilling = phases.filter(|phase| self.is_used_by(phase));
        let epochs = distilling.map(|phase| phase.epochs).max().unwrap_or(0);
        views.count.min(u32::try_from(epochs).unwrap_or(u32::MAX))
    }

    /// Images per request of a recorder: the batch size of the first phase with soft targets.
    pub(super) fn batch_size(&self) -> usize {
        let mut phases = self.config.phases.iter();
        let distilling = phases.find(|phase| self.is_used_by(phase));
        distilling.map_or(128, |phase| phase.batch_size)
    }

    /// The largest batch that is sent to teachers.
    fn largest_batch(&self) -> BatchSize {
        let views = self.config.soft_targets.as_ref();
        let views = views.and_then(SoftTargetsConfig::fixed_views);
        let phases = self.config.phases.iter().enumerate();
        let distilling = phases.filter(|(_, phase)| self.is_used_by(phase));
        let largest = distilling.max_by_key(|(_, phase)| phase.batch_size);
        let (index, images) = largest.map_or((0, 1), |(index, phase)| (index, phase.batch_size));
        BatchSize {
            // Small batches of fixed views are padded.
            images: images.max(views.map_or(1, |_| MIN_REQUEST_IMAGES)),
            key: format!("phases[{index}].batch_size"),
        }
    }

    /// Brings the classes `names` of a teacher or recording, called `whose`, into the order of the data;
    /// `None` if they are in that order.
    ///
    /// # Errors
    /// [`SoftTargetError::OtherClasses`].
    pub(super) fn class_order(
        &self,
        names: Option<&[String]>,
        whose: &str,
        notices: &NoticeSender,
    ) -> Result<Option<ClassOrder>, SoftTargetError> {
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
            Err(differ) => Err(SoftTargetError::OtherClasses {
                whose: whose.to_owned(),
                differ,
            }),
        }
    }

    /// Number of batches that the teachers may have at a time.
    pub(super) fn prefetch(&self) -> usize {
        self.teacher.pool.map_or(1, |pool| pool.prefetch)
    }

    /// What the teachers must take: images of any size, or rows as they are.
    fn teacher_input(&self) -> TensorSpec {
        match self.train.kind() {
            SampleKind::Image { .. } => {
                let open = [Dimension::Open; 3];
                let dimensions = [Dimension::Batch].into_iter().chain(open).collect();
                TensorSpec {
                    name: "samples".to_owned(),
                    data_type: DataType::Uint8,
                    dimensions: Dimensions(dimensions),
                }
            }
            row @ SampleKind::Row { .. } => row.tensor("samples"),
        }
    }

    /// Shape of one sample of the student's input.
    pub(super) fn input(&self) -> Shape {
        self.config.network.input
    }

    fn view_set(&self, views: FixedViews) -> Result<ViewSet, SoftTargetError> {
        let augmentation = self.config.data.augmentation;
        Ok(ViewSet::of(
            self.train,
            augmentation,
            views.seed,
            &self.input().dimensions(),
        )?)
    }

    /// The recording of the teachers in `pool`, which is created if it does not exist.
    pub(super) fn open_or_create(&self, pool: &TeacherPool) -> Result<Recording, SoftTargetError> {
        let (settings, store, views) = self.recordings()?;
        let identity = RecordingIdentity {
            teacher: pool.identity().clone(),
            images: RecordedImages::of(self.train, self.config.network.classes),
            views: self.view_set(views)?,
            encoding: self.encoding(),
        };
        let samples = settings.samples_per_shard;
        let names = pool.class_names();
        let recording = store.open_or_create(&identity, samples, names)?;
        match recording.class_names() {
            Some(recorded)
                if recorded != names && self.config.class_names() == ClassNames::Match =>
            {
                Err(SoftTargetError::RenamedClasses(
                    recording.place().to_owned(),
                ))
            }
            _ => Ok(recording),
        }
    }

    /// Those of `shards` that must be recorded.
    ///
    /// # Errors
    /// [`SoftTargetError::Cancelled`]; a bucket that does not answer.
    pub(super) fn to_record(
        &self,
        recording: &Recording,
        shards: impl Iterator<Item = ShardId>,
    ) -> Result<Vec<ShardFault>, SoftTargetError> {
        // In a folder, every byte of the shards that are there is read.
        let shards = shards.take_while(|_| !self.cancel.is_cancelled());
        let faults = recording.to_record(shards)?;
        if self.cancel.is_cancelled() {
            return Err(SoftTargetError::Cancelled);
        }
        Ok(faults)
    }

    fn encoding(&self) -> Encoding {
        self.teacher
            .pool
            .map_or(Encoding::F32, |pool| pool.encoding)
    }

    /// The views of recordings.
    pub(super) fn recorded_views(&self) -> FixedViews {
        let settings = self.config.soft_targets.as_ref();
        let views = settings.and_then(SoftTargetsConfig::fixed_views);
        // Holds: a validated configuration that records or replays has them.
        views.expect("views are configured")
    }

    fn recordings(
        &self,
    ) -> Result<(&'r SoftTargetsConfig, RecordingStore, FixedViews), SoftTargetError> {
        let settings = self.config.soft_targets.as_ref();
        let found = settings.and_then(|settings| Some((settings, settings.recordings()?)));
        // Holds: a validated configuration that records or replays has both.
        let (settings, (location, views)) = found.expect("folder and views are configured");
        let store = RecordingStore::open(&location, &settings.bucket_options(), self.cancel)?;
        Ok((settings, store, views))
    }

    /// A recording that has all views that the run still needs.
    pub(super) fn recorded(
        &self,
        notices: &NoticeSender,
    ) -> Result<RecordedTargets, SoftTargetError> {
        let (recorded, views) = self.fitting_recording(None, notices)?;
        recorded.open_all(&views)?;
        notices.notice(format!("{recorded} holds the {} views needed", views.len()));
        Ok(recorded)
    }

    /// A recording of `teacher`, in which views may be missing.
    pub(super) fn as_far_as_recorded(
        &self,
        teacher: &TeacherIdentity,
        notices: &NoticeSender,
    ) -> Result<RecordedTargets, SoftTargetError> {
        let (recorded, views) = self.fitting_recording(Some(teacher), notices)?;
        match recorded.open_all(&views) {
            Ok(()) => notices.notice(format!("{recorded} holds the {} views needed", views.len())),
            Err(StoreError::Stopped) => return Err(SoftTargetError::Cancelled),
            Err(error) => notices.notice(format!(
                "{error}; without teachers the run continues as far as the recording reaches"
            )),
        }
        Ok(recorded)
    }

    /// Checks that `recording` has what the terms that learn from this teacher need.
    fn check_encoding(&self, recording: &Recording) -> Result<(), SoftTargetError> {
        let encoding = recording.identity().encoding;
        let mut terms = self.config.loss_terms().filter(|term| {
            let teachers = self.config.teachers_of(&term.term);
            teachers.is_some_and(|it| it.positions().contains(&self.teacher.position))
        });
        let unmet = terms.find_map(|term| Some((self.config.unmet_need(&term, encoding)?, term)));
        match unmet {
            None => Ok(()),
            Some((need, term)) => Err(SoftTargetError::UnmetNeed {
                term: term.to_string(),
                need: Box::new(need),
                recording: recording.place().to_owned(),
                encoding,
            }),
        }
    }

    /// A recording that fits the run, and `teacher` if one is connected; and the views that the run still
    /// needs, which are not opened yet.
    fn fitting_recording(
        &self,
        teacher: Option<&TeacherIdentity>,
        notices: &NoticeSender,
    ) -> Result<(RecordedTargets, BTreeSet<u32>), SoftTargetError> {
        let (settings, store, views) = self.recordings()?;
        let wanted = WantedRecording {
            images: &RecordedImages::of(self.train, self.config.network.classes),
            views: &self.view_set(views)?,
            // Targets that replace live ones must have the same encoding.
            encoding: match self.config.soft_targets_mode() {
                SoftTargetsMode::Live => Some(self.encoding()),
                SoftTargetsMode::Record | SoftTargetsMode::Recorded => settings.encoding,
            },
            teacher,
        };
        let recordings = store.list()?;
        for damaged in &recordings.damaged {
            notices.notice(format!("left out: {damaged}"));
        }
        let recording = recordings.find(&wanted, self.teacher.recording)?;
        self.check_encoding(&recording)?;
        let whose = format!("the recording {}", recording.place().display());
        let order = self.class_order(recording.class_names(), &whose, notices)?;
        let replay = Replay::new(recording, self.views_needed(views)).until(self.cancel.clone());
        Ok((
            RecordedTargets::new(replay, order),
            self.epochs.views(views),
        ))
    }
}
