//! One run from start to end.

mod artifact;
mod checkpoint;
mod checkpoints;
mod data;
mod delivery;
mod error;
mod folder;
mod manifest;
mod metrics;
mod resume;
mod space;

use std::{
    io,
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use artifacts::manifest::TeacherIdentity;
use common::digest::Sha256;
use datasets::Dataset;
use networks::{Weights, model_id};
use onnx_runtime::SessionError;
use teacher_pool::NumericsPolicy;
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;
use torch_networks::{Device, numerics};

pub use artifact::{ArtifactError, ModelFolder};
pub use checkpoint::CheckpointError;
pub use error::{NotFinite, RunError};
pub use folder::RunFolder;
pub use manifest::{PhaseRecord, RunManifest};
pub use resume::ResumePolicy;

use crate::{
    config::RunConfig,
    engine::{self, Checkpoints, PhaseContext, PhaseState, Precision, TorchNetwork},
    events::{EventSink, RunEvent},
    export::ExportError,
    metrics::RunUnderWay,
    soft_targets::{SoftTargetEpochs, SoftTargetSource, SoftTargetSupply, SupplyContext},
};
use checkpoint::{Checkpoint, Circumstances, RunProgress};
use checkpoints::CheckpointFolder;
pub(crate) use data::TrainingData;
use metrics::MetricsLog;

/// What a run is given beside its configuration.
#[derive(Debug, Clone, Copy)]
pub struct RunContext<'r> {
    /// Takes everything that the run leaves; made where it is missing.
    pub folder: &'r Path,
    /// What an interrupted run in the folder may differ in.
    pub resume: ResumePolicy,
    /// Where progress is told; the events of an interrupted run come again.
    pub events: &'r EventSink,
    /// Cancelling it ends the run between two steps with [`RunError::Cancelled`].
    pub cancel: &'r CancellationToken,
    /// Does the network traffic: teachers, publishing.
    pub runtime: &'r Handle,
}

/// What a run left behind.
#[derive(Debug, Clone, PartialEq)]
pub struct RunOutcome {
    /// SHA-256 of the exported ONNX file, where the run exports.
    pub onnx_sha256: Option<Sha256>,
    /// Version under which the model was published, where the run publishes.
    pub published_version: Option<u64>,
    /// On the validation split after the last epoch, where the run has one.
    pub validation_accuracy: Option<f64>,
}

/// Trains as `config` says, from the newest checkpoint in the folder or from the start.
///
/// Blocks for as long as training takes: call it from a thread of its own, outside of tokio's.
///
/// # Errors
/// See [`RunError`]. Nothing half-written is left under a final name.
pub fn execute(config: RunConfig, context: RunContext<'_>) -> Result<RunOutcome, RunError> {
    if config.export.onnx {
        // Now rather than after the training.
        onnx_runtime::load_library()
            .map_err(SessionError::from)
            .map_err(ExportError::from)?;
    }
    let folder = RunFolder::take(context.folder)?;
    match checkpoints::are_in(&folder.checkpoints())? {
        true => resume::check_config(&folder.config()?, &config, context.resume)?,
        false => folder.clear()?,
    }
    let (checkpoints, resumed, problems) =
        CheckpointFolder::open(folder.checkpoints(), config.checkpoints, &config.network)?;
    let config_toml = config.to_toml();
    folder.write_config(&config_toml)?;

    let data = TrainingData::load(&config)?;
    let threads = engine::set_threads(config.threads);
    let precision = config.precision.resolve();
    let initial = Weights::initial(&config.network, config.seed)?;
    let network = TorchNetwork::new(&config.network, &initial, Device::Cpu)?;
    let numerics = numerics(&network, precision)?;
    let circumstances = Circumstances {
        threads,
        numerics: numerics.descriptor,
        probe_sha256: numerics.probe_sha256,
        dataset: data.fingerprint.clone(),
    };
    let same_bits = match &resumed {
        Some(Checkpoint { run, .. }) => {
            let before = &run.circumstances;
            run.bit_reproducible
                & resume::check_circumstances(before, &circumstances, context.resume)?
        }
        None => true,
    };
    let (metrics, past) = match &resumed {
        Some(Checkpoint { run, .. }) => MetricsLog::resume(&folder.metrics(), run.metrics_bytes)?,
        None => (MetricsLog::create(&folder.metrics())?, Vec::new()),
    };
    let _gauges = RunUnderWay::begin();
    let watchers = crate::metrics::follow(context.events);
    past.into_iter().for_each(|event| watchers.send(event));
    let metrics = Arc::new(metrics);
    let run = Run {
        events: metrics.sink(&watchers),
        config_sha256: Sha256::of(config_toml.as_bytes()),
        started: Instant::now(),
        config,
        context,
        folder,
        metrics,
        checkpoints: Mutex::new(checkpoints),
        resumed,
        same_bits,
        circumstances,
        data,
        precision,
    };
    for problem in problems {
        run.events.notices().notice(problem);
    }
    run.execute(&network, &initial)
        .map_err(|error| error.with_checkpoint(run.checkpoints().newest()))
}

/// Whether the run in `folder` did all that it should.
pub fn is_finished(folder: &Path) -> bool {
    folder::manifest(folder).exists()
}

/// What the run in `folder` did so far.
///
/// # Errors
/// When its log is there and cannot be read.
pub fn past_events(folder: &Path) -> io::Result<Vec<RunEvent>> {
    metrics::read(&folder::metrics(folder))
}

/// A run under way.
struct Run<'r> {
    config: RunConfig,
    config_sha256: Sha256,
    context: RunContext<'r>,
    folder: RunFolder,
    metrics: Arc<MetricsLog>,
    checkpoints: Mutex<CheckpointFolder>,
    /// What it goes on from.
    resumed: Option<Checkpoint>,
    /// Whether it went on under the same circumstances, every time.
    same_bits: bool,
    circumstances: Circumstances,
    data: TrainingData,
    precision: Precision,
    /// To the log and to whoever watches.
    events: EventSink,
    started: Instant,
}

impl Run<'_> {
    fn execute(&self, network: &TorchNetwork, initial: &Weights) -> Result<RunOutcome, RunError> {
        self.announce_resumption();
        self.check_space(initial)?;
        self.check_delivery(initial)?;
        let supply = self.soft_targets()?;
        let teacher = self.teacher(&supply)?;
        let phases =
            supply.while_training(|source| self.train(network, source, teacher.as_ref()))?;
        // From here on no teacher is needed.
        drop(supply);

        let weights = network.weights()?;
        let artifact = ModelFolder::new(self.folder.artifact());
        artifact.write(&self.model_file(), &weights)?;
        let numerics = numerics(network, self.precision)?;
        let mut manifest = RunManifest {
            format_version: manifest::FORMAT_VERSION,
            name: self.folder.name(),
            seed: self.config.seed,
            config_sha256: self.config_sha256.clone(),
            threads: self.circumstances.threads,
            precision: self.precision,
            numerics: numerics.descriptor,
            probe_sha256: numerics.probe_sha256,
            retort_version: env!("CARGO_PKG_VERSION").to_owned(),
            dataset: self.data.fingerprint.clone(),
            train_samples: self.data.train.len(),
            validation_samples: self.data.validation.as_ref().map_or(0, Dataset::len),
            class_order: teacher.as_ref().and_then(|it| it.class_order.clone()),
            teacher: teacher.map(|teacher| teacher.identity),
            bit_reproducible: self.is_bit_reproducible(),
            model_id: model_id(&self.config.network, &weights)?,
            phases,
            onnx_sha256: None,
            published_version: None,
            seconds: 0.0,
        };
        if self.config.export.onnx {
            let model = self.export(network, &weights)?;
            let upload = self.write_onnx(&artifact, model, &manifest)?;
            manifest.onnx_sha256 = Some(Sha256::of(&upload.onnx));
            manifest.published_version = self.publish(&upload)?;
        }
        manifest.seconds = self.seconds();
        // What the log lacks, a finished run must not hide.
        self.metrics.sync()?;
        common::atomic_file::write(&self.folder.manifest(), &manifest.to_json())?;
        Ok(RunOutcome {
            validation_accuracy: manifest.validation_accuracy(),
            onnx_sha256: manifest.onnx_sha256,
            published_version: manifest.published_version,
        })
    }

    fn announce_resumption(&self) {
        let Some(Checkpoint { run, phase }) = &self.resumed else {
            return;
        };
        let other_bits = match self.same_bits {
            true => "",
            false => "; threads or numerics changed, so the bits cannot be had again",
        };
        self.events.notices().notice(format!(
            "goes on from step {} of the run: phase {} ({}), {} epochs and {} steps done{other_bits}",
            run.step,
            run.phase + 1,
            run.kind,
            phase.progress.epoch,
            phase.progress.step,
        ));
    }

    fn soft_targets(&self) -> Result<SoftTargetSupply<'_>, RunError> {
        let context = SupplyContext {
            config: &self.config,
            epochs: self.soft_target_epochs(),
            teacher_before: self.teacher_before(),
            train: &self.data.train,
            cancel: self.context.cancel,
            runtime: self.context.runtime,
        };
        SoftTargetSupply::prepare(context, self.events.notices())
    }

    /// The epochs that are left to be trained with soft targets.
    fn soft_target_epochs(&self) -> SoftTargetEpochs {
        SoftTargetEpochs::left(&self.config, |index| match &self.resumed {
            Some(Checkpoint { run, .. }) if index < run.phase => self.config.phases[index].epochs,
            Some(Checkpoint { run, phase }) if index == run.phase => phase.progress.epoch,
            _ => 0,
        })
    }

    /// Whose soft targets the run uses, or used before it was interrupted.
    fn teacher(&self, supply: &SoftTargetSupply<'_>) -> Result<Option<RunTeacher>, RunError> {
        let before = self.resumed.as_ref().and_then(|resumed| {
            let identity = resumed.run.teacher.clone()?;
            let class_order = resumed.run.class_order.clone();
            Some(RunTeacher {
                identity,
                class_order,
            })
        });
        let Some(identity) = supply.teacher() else {
            return Ok(before);
        };
        let now = RunTeacher {
            identity: identity.clone(),
            class_order: supply.class_order(),
        };
        if let Some(before) = before {
            resume::check_teacher(&before.identity, &now.identity, self.mixes_numerics())?;
            resume::check_class_order(before.class_order.as_ref(), now.class_order.as_ref())?;
        }
        Ok(Some(now))
    }

    fn teacher_before(&self) -> Option<&TeacherIdentity> {
        self.resumed.as_ref()?.run.teacher.as_ref()
    }

    fn train(
        &self,
        network: &TorchNetwork,
        soft_targets: Option<SoftTargetSource<'_>>,
        teacher: Option<&RunTeacher>,
    ) -> Result<Vec<PhaseRecord>, RunError> {
        let views = self.config.soft_targets.as_ref();
        let views = views.and_then(|targets| targets.fixed_views());
        let mut resumed = self.resumed.as_ref();
        let mut records = resumed.map_or_else(Vec::new, |it| it.run.phases.clone());
        for (index, phase) in self.config.phases.iter().enumerate().skip(records.len()) {
            let checkpoints = PhaseCheckpoints {
                run: self,
                phase: index,
                records: &records,
                teacher,
            };
            let summary = engine::train_phase(
                network,
                PhaseContext {
                    index,
                    config: phase,
                    seed: self.config.seed,
                    precision: self.precision,
                    train: &self.data.train,
                    validation: self.data.validation.as_ref(),
                    normalization: &self.config.data.normalization,
                    augmentation: self.config.data.augmentation,
                    soft_targets,
                    views,
                    resumed: resumed.take().map(|it| &it.phase),
                    checkpoints: Some(&checkpoints),
                    events: &self.events,
                    cancel: self.context.cancel,
                },
            )?;
            let folder = ModelFolder::new(self.folder.phase(index, phase.kind()));
            if !folder.is_whole() {
                folder.write(&self.model_file(), &network.weights()?)?;
            }
            records.push(PhaseRecord::new(phase.kind(), summary));
        }
        Ok(records)
    }

    fn model_file(&self) -> networks::ModelFile {
        networks::ModelFile {
            format_version: networks::ModelFile::FORMAT_VERSION,
            // Named where the weights are written.
            weights_sha256: None,
            class_names: self.config.data.class_names.clone(),
            normalization_mean: self.config.data.normalization.mean.clone(),
            normalization_std: self.config.data.normalization.std.clone(),
            network: self.config.network.clone(),
        }
    }

    /// Whether the same configuration gives the same bits again.
    fn is_bit_reproducible(&self) -> bool {
        self.same_bits && !(self.config.needs_teacher() && self.mixes_numerics())
    }

    fn mixes_numerics(&self) -> bool {
        let teacher = self.config.teacher.as_ref();
        teacher.is_some_and(|pool| pool.numerics == NumericsPolicy::Any)
    }

    /// Wall-clock time of the run, that of earlier processes included.
    fn seconds(&self) -> f64 {
        let before = self.resumed.as_ref().map_or(0.0, |it| it.run.seconds);
        before + self.started.elapsed().as_secs_f64()
    }

    /// Steps of all phases before `phase`.
    fn steps_before(&self, phase: usize) -> u64 {
        let phases = self.config.phases[..phase].iter();
        phases
            .map(|phase| phase.epochs as u64 * self.steps_per_epoch(phase.batch_size))
            .sum()
    }

    fn steps_per_epoch(&self, batch_size: usize) -> u64 {
        self.data.train.len().div_ceil(batch_size) as u64
    }

    fn checkpoints(&self) -> MutexGuard<'_, CheckpointFolder> {
        // A panic while one was written left the others as they were.
        self.checkpoints
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whose soft targets a run uses.
struct RunTeacher {
    identity: TeacherIdentity,
    /// Digest of the order into which its classes are brought, where it is another one.
    class_order: Option<Sha256>,
}

/// Makes the states of one phase into checkpoints of the run.
struct PhaseCheckpoints<'r> {
    run: &'r Run<'r>,
    phase: usize,
    /// Of the phases before.
    records: &'r [PhaseRecord],
    teacher: Option<&'r RunTeacher>,
}

impl Checkpoints for PhaseCheckpoints<'_> {
    fn every_steps(&self) -> u64 {
        self.run.config.checkpoints.every_steps
    }

    fn keep(&self, state: PhaseState) -> Result<(), RunError> {
        let Self { run, phase, .. } = *self;
        let config = &run.config.phases[phase];
        let epochs = state.progress.epoch as u64 * run.steps_per_epoch(config.batch_size);
        run.checkpoints().keep(&Checkpoint {
            run: RunProgress {
                step: run.steps_before(phase) + epochs + state.progress.step,
                phase,
                kind: config.kind(),
                phases: self.records.to_vec(),
                circumstances: run.circumstances.clone(),
                teacher: self.teacher.map(|teacher| teacher.identity.clone()),
                class_order: self.teacher.and_then(|teacher| teacher.class_order.clone()),
                bit_reproducible: run.is_bit_reproducible(),
                metrics_bytes: run.metrics.sync()?,
                seconds: run.seconds(),
            },
            phase: state,
        })
    }
}
