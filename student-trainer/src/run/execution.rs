//! Executes one run, from its start or from a checkpoint.

mod following;
mod phase_checkpoints;
mod quantization;
mod supplies;

use std::{
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use common::{cores, digest::Sha256};
use datasets::{Source, Subset};
use networks::{Weights, cost, model_id, onnx::Ranges};
use onnx_runtime::SessionError;
use tempfile::TempDir;
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;
use torch_distributed::Workers;
use torch_networks::{Device, numerics};
use traces::Span;

use self::phase_checkpoints::PhaseCheckpoints;
use super::{
    agreement::{self, RunState},
    checkpoint::{Checkpoint, Circumstances},
    checkpoints::{self, CheckpointFolder, FoundCheckpoints},
    delivery::Delivery,
    disk_space,
    error::RunError,
    folder::RunFolder,
    gate_verdict::Withheld,
    initial_weights::InitialWeights,
    manifest::{self, PhaseRecord, RunManifest},
    metrics::MetricsLog,
    model_folder::ModelFolder,
    publish_gate::PublishGate,
    resume::{self, ResumePolicy},
    teachers::RunTeachers,
    tensorboard::TensorBoard,
};
use crate::{
    bucket_run::BucketRun,
    config::{PhaseConfig, RunConfig},
    engine::{self, Checkpoints, PhaseContext, Precision, TorchNetwork},
    events::EventSink,
    export::ExportError,
    loader::{BatchPlan, BatchShare, TrainingSamples},
    metrics::CurrentRunGauges,
    soft_targets::{PhaseTargets, SoftTargetSource},
    training_data::TrainingData,
};

/// The inputs of a run besides its configuration.
#[derive(Debug, Clone, Copy)]
pub struct RunContext<'r> {
    /// Folder for everything that the run writes; created if it is missing. Of several workers, only the one with rank
    /// 0 uses it.
    pub folder: &'r Path,
    /// How an interrupted run in the folder may differ.
    pub resume: ResumePolicy,
    /// Receives progress; the events of an interrupted run are sent again.
    pub events: &'r EventSink,
    /// Cancelling it ends the run between two steps with [`RunError::Cancelled`].
    pub cancel: &'r CancellationToken,
    /// The workers that do the run together.
    pub workers: &'r dyn Workers,
    /// The bucket to which the run copies its folder, if it has one.
    pub bucket: Option<&'r BucketRun>,
    /// Runs the network traffic: teachers, publishing.
    pub runtime: &'r Handle,
}

/// The result of a run; of a worker with another rank than 0, without its files.
#[derive(Debug, Clone, PartialEq)]
pub struct RunOutcome {
    /// SHA-256 of the exported ONNX file, if the run exports.
    pub onnx_sha256: Option<Sha256>,
    /// Version of the published model, if the run publishes.
    pub published_version: Option<u64>,
    /// Accuracy of the final weights on the validation split, if the run has one.
    pub validation_accuracy: Option<f64>,
}

/// Does the run of `config`, from the newest checkpoint in the folder or from the start. A run whose publish gate
/// withheld its model only exports, judges and publishes it again. Several workers all call this; the one with rank 0 alone
/// has checkpoints, exports and publishes.
///
/// Blocks until the run ends: must be called from a thread outside tokio's.
///
/// # Errors
/// See [`RunError`].
pub fn execute(config: RunConfig, context: RunContext<'_>) -> Result<RunOutcome, RunError> {
    let device = engine::device_of_worker(context.workers, config.device)?;
    if config.export.onnx {
        // A missing library is reported before training.
        onnx_runtime::load_library()
            .map_err(SessionError::from)
            .map_err(ExportError::from)?;
    }
    let workers = context.workers;
    agreement::check(workers, &config)?;
    let met = agreement::meet(workers, RunState::Unfinished);
    // A long wait, if the worker with rank 0 has to wait for a lease or a download before it comes.
    let lost = |error| RunError::from(error).if_stopped(context.cancel.is_cancelled());
    if met.map_err(lost)? == RunState::Complete {
        return Ok(RunOutcome::of_follower());
    }
    let initial = InitialWeights::of(&config)?;
    let follows = workers.rank() > 0;
    // Removed when the run ends.
    let temporary = follows.then(tempfile::tempdir).transpose()?;
    let path = temporary.as_ref().map_or(context.folder, TempDir::path);
    let folder = RunFolder::take(path)?;
    if checkpoints::are_in(&folder.checkpoints())? {
        resume::check_config(&folder.config()?, &config, context.resume)?;
    } else {
        folder.clear()?;
    }
    let FoundCheckpoints {
        folder: checkpoints,
        newest,
        problems,
    } = CheckpointFolder::open(folder.checkpoints(), config.checkpoints, &config.network)?;
    let resumed = agreement::on_start(workers, &config, newest)?;
    let config_toml = config.to_toml();
    folder.reopen()?;
    folder.write_config(&config_toml)?;

    let data = TrainingData::load(&config)?;
    let threads = engine::set_threads(config.threads);
    let precision = Precision::on(device, config.precision);
    let network = TorchNetwork::new(&config.network, &initial.weights, device)?;
    let numerics = numerics(&network, precision)?;
    let circumstances = Circumstances {
        threads,
        numerics: numerics.descriptor,
        probe_sha256: numerics.probe_sha256,
        dataset: data.fingerprint.clone(),
        initial_weights: initial.sha256,
    };
    let validation = data.validation.as_ref().map(Subset::fingerprint);
    agreement::on_circumstances(workers, &circumstances, validation)?;
    agreement::on_gpus(workers, device)?;
    let same_bits = match &resumed {
        Some(Checkpoint { run, .. }) => {
            let before = &run.circumstances;
            run.bit_reproducible
                & resume::check_circumstances(before, &circumstances, context.resume)?
        }
        None => true,
    };
    let (metrics, past) = match &resumed {
        Some(Checkpoint { run, .. }) if !follows => {
            MetricsLog::resume(&folder.metrics(), run.metrics_bytes)?
        }
        _ => (MetricsLog::create(&folder.metrics())?, Vec::new()),
    };
    let _gauges = CurrentRunGauges::new();
    let watchers = crate::metrics::follow(context.events);
    let tensorboard = Arc::new(TensorBoard::open(&folder.tensorboard(), &past));
    past.into_iter().for_each(|event| watchers.send(event));
    let metrics = Arc::new(metrics);
    let run = Run {
        events: metrics.sink(&tensorboard.sink(&watchers)),
        config_sha256: Sha256::of(config_toml.as_bytes()),
        started: Instant::now(),
        config,
        context,
        folder,
        metrics,
        tensorboard,
        checkpoints: Mutex::new(checkpoints),
        resumed,
        same_bits,
        circumstances,
        data,
        precision,
    };
    let excess = cores::excess("threads", run.config.threads).filter(|_| device == Device::Cpu);
    let excess = excess.map(|excess| {
        format!("warning: {excess}; a run with another number of threads gives other bits")
    });
    for notice in initial.notice.into_iter().chain(problems).chain(excess) {
        run.events.notices().notice(notice);
    }
    run.data.report_unreadable(&run.events.notices());
    let ended = |error: RunError| error.if_stopped(context.cancel.is_cancelled());
    if follows {
        let followed = run.follow(&network);
        return followed.map_err(|error| ended(error).of_follower(workers.rank()));
    }
    run.execute(&network, &initial.weights)
        .map_err(|error| ended(error).with_checkpoint(run.checkpoints().newest()))
}

/// A run that is being executed.
struct Run<'r> {
    config: RunConfig,
    config_sha256: Sha256,
    context: RunContext<'r>,
    folder: RunFolder,
    metrics: Arc<MetricsLog>,
    tensorboard: Arc<TensorBoard>,
    checkpoints: Mutex<CheckpointFolder>,
    /// The checkpoint from which it resumed.
    resumed: Option<Checkpoint>,
    /// Whether threads and numerics stayed the same at every resumption.
    same_bits: bool,
    circumstances: Circumstances,
    data: TrainingData,
    precision: Precision,
    /// Sends to the log and to the caller's sink.
    events: EventSink,
    started: Instant,
}

impl Run<'_> {
    fn execute(
        &self,
        network: &TorchNetwork,
        initial_weights: &Weights,
    ) -> Result<RunOutcome, RunError> {
        self.announce_resumption();
        disk_space::check(&self.folder, &self.config, initial_weights)?;
        let delivery = self.delivery();
        let gate = PublishGate::open(&delivery)?;
        delivery.check(initial_weights)?;
        let supplies = self.soft_targets()?;
        let recordings = supplies.recordings();
        disk_space::check_with_recordings(&self.folder, &self.config, initial_weights, recordings)?;
        let teachers = self.agreed_teachers(&supplies)?;
        let (phases, ranges) =
            supplies.while_training(|sources| self.train(network, sources, &teachers))?;
        // Disconnects from the teachers, which the rest of the run does not need.
        drop(supplies);

        let weights = network.weights()?;
        let artifact = ModelFolder::new(self.folder.artifact());
        artifact.write(&self.model_file(), &weights)?;
        let numerics = numerics(network, self.precision)?;
        let validation = self.data.validation.as_ref();
        let single = teachers.single.as_ref();
        let class_order = single.and_then(|teacher| teacher.class_order.clone());
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
            initial_weights_sha256: self.circumstances.initial_weights.clone(),
            train_samples: self.data.train.len(),
            labelled_samples: Some(self.data.labelled.len())
                .filter(|labelled| *labelled < self.data.train.len()),
            validation_samples: validation.map_or(0, Subset::len),
            validation_dataset: validation.map(|validation| validation.fingerprint().to_owned()),
            class_order,
            teacher: teachers.single.map(|teacher| teacher.identity),
            teachers: teachers.named,
            bit_reproducible: self.is_bit_reproducible(),
            model_id: model_id(&self.config.network, &weights)?,
            parameters: Some(cost(&self.config.network)?.parameters),
            phases,
            onnx_sha256: None,
            int8_onnx_sha256: None,
            publish_gate: None,
            published_version: None,
            seconds: 0.0,
        };
        if self.config.export.onnx {
            let ranges = ranges.as_ref();
            let upload = delivery.export(network, &weights, ranges, &mut manifest)?;
            let judged = gate.map(|gate| gate.judge(&upload.onnx, manifest.only_teacher()));
            manifest.publish_gate = judged.transpose()?;
            if !manifest.is_withheld() {
                manifest.published_version = delivery.publish(&upload)?;
            }
        }
        manifest.seconds = self.seconds();
        // Fails if a line of the log could not be written.
        self.metrics.sync()?;
        common::atomic_file::write(&self.folder.manifest(), &manifest.to_json())?;
        self.release_followers();
        if let Some(withheld) = Withheld::of(manifest.publish_gate.as_ref(), self.folder.path()) {
            return Err(withheld.into());
        }
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
        let other_bits = if self.same_bits {
            ""
        } else {
            "; thread count or numerics changed: the result will not be bit-identical"
        };
        self.events.notices().notice(format!(
            "resumes from step {} of the run: phase {} ({}), {} epochs and {} steps done{other_bits}",
            run.step,
            run.phase + 1,
            run.kind,
            phase.progress.epoch,
            phase.progress.step,
        ));
    }

    fn delivery(&self) -> Delivery<'_> {
        Delivery {
            config: &self.config,
            config_sha256: &self.config_sha256,
            folder: &self.folder,
            data: &self.data,
            notices: self.events.notices(),
            cancel: self.context.cancel,
            runtime: self.context.runtime,
        }
    }

    /// Trains all phases; also returns the ranges of the last one if it is quantization-aware.
    fn train(
        &self,
        network: &TorchNetwork,
        sources: &[Option<SoftTargetSource<'_>>],
        teachers: &RunTeachers,
    ) -> Result<(Vec<PhaseRecord>, Option<Ranges>), RunError> {
        let mut resumed = self.resumed.as_ref();
        let mut ranges = None;
        let mut records = resumed.map_or_else(Vec::new, |it| it.run.phases.clone());
        for (index, phase) in self.config.phases.iter().enumerate().skip(records.len()) {
            let span = Span::begin("phase")
                .with("retort.phase.index", index as i64)
                .with("retort.phase.kind", phase.kind().to_string());
            let _entered = span.enter();
            ranges = self.ranges(phase, network, resumed)?;
            let checkpoints = PhaseCheckpoints {
                run: self,
                phase: index,
                records: &records,
                teachers,
            };
            let keeps_checkpoints = self.context.workers.rank() == 0;
            let soft_targets = PhaseTargets::new(&self.config, phase, sources);
            let context = PhaseContext {
                config: phase,
                precision: self.precision,
                ranges: ranges.as_ref(),
                batches: self.batches(index, phase, soft_targets.as_ref()),
                validation: self.data.validation.as_ref(),
                resumed: resumed.take().map(|it| &it.phase),
                workers: self.context.workers,
                checkpoints: keeps_checkpoints.then_some(&checkpoints as &dyn Checkpoints),
                events: &self.events,
                cancel: self.context.cancel,
            };
            let trained = engine::train_phase(network, context);
            let summary = trained.inspect_err(|error| error.mark(&span))?;
            let folder = ModelFolder::new(self.folder.phase(index, phase.kind()));
            if !folder.is_complete() {
                folder.write(&self.model_file(), &network.weights()?)?;
                self.copy_to_bucket();
            }
            records.push(PhaseRecord::new(phase, summary));
        }
        Ok((records, ranges))
    }

    /// Begins to copy the present state of the folder to the run's bucket, if it has one.
    fn copy_to_bucket(&self) {
        if let Some(bucket) = self.context.bucket {
            bucket.save();
        }
    }

    fn batches<'b>(
        &'b self,
        index: usize,
        phase: &PhaseConfig,
        soft_targets: Option<&'b PhaseTargets<'b>>,
    ) -> BatchPlan<'b> {
        let distils = phase.loss.needs_soft_targets();
        let views = self.config.soft_targets.as_ref();
        let views = views.and_then(|targets| targets.fixed_views());
        BatchPlan {
            samples: TrainingSamples {
                source: self.data.of_loss(&phase.loss),
                input: self.config.network.input,
                normalization: &self.data.normalization,
                augmentation: self.config.data.augmentation,
            },
            seed: self.config.seed,
            phase: index,
            epochs: phase.epochs,
            batch_size: phase.batch_size,
            soft_targets,
            views: views.filter(|_| distils),
            share: BatchShare::of(self.context.workers),
        }
    }

    fn model_file(&self) -> networks::ModelFile {
        networks::ModelFile {
            format_version: networks::ModelFile::FORMAT_VERSION,
            // Set when the weights are written.
            weights_sha256: None,
            class_names: self.config.data.class_names.clone(),
            normalization_mean: self.data.normalization.mean.clone(),
            normalization_std: self.data.normalization.std.clone(),
            network: self.config.network.clone(),
        }
    }

    /// Whether the same configuration will give the same bits.
    fn is_bit_reproducible(&self) -> bool {
        let teachers = self.config.all_teachers();
        let mut names = teachers.iter().map(|teacher| teacher.name);
        let mixes_numerics = names.any(|name| self.config.mixes_numerics(name));
        self.same_bits && !(self.config.needs_teacher() && mixes_numerics)
    }

    /// Wall-clock time of the run, including earlier processes.
    fn seconds(&self) -> f64 {
        let before = self.resumed.as_ref().map_or(0.0, |it| it.run.seconds);
        before + self.started.elapsed().as_secs_f64()
    }

    /// Steps of all phases before `phase`.
    fn steps_before(&self, phase: usize) -> u64 {
        let phases = self.config.phases[..phase].iter();
        phases
            .map(|phase| phase.epochs as u64 * self.steps_per_epoch(phase))
            .sum()
    }

    fn steps_per_epoch(&self, phase: &PhaseConfig) -> u64 {
        phase.steps_per_epoch(self.data.of_loss(&phase.loss).len())
    }

    fn checkpoints(&self) -> MutexGuard<'_, CheckpointFolder> {
        // A panic while a checkpoint is written does not damage the others.
        self.checkpoints
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}
