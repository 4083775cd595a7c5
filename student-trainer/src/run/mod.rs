//! One run from start to end.

mod artifact;
mod data;
mod error;
mod folder;
mod manifest;
mod metrics;

use std::{path::Path, time::Instant};

use common::{
    digest::Sha256,
    manifest::{ArtifactManifest, OnnxFile, Preprocessing, Provenance},
};
use datasets::Dataset;
use networks::{Weights, model_id};
use onnx_runtime::SessionError;
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;
use torch_networks::{Device, numerics};

pub use artifact::{ArtifactError, ModelFolder};
pub use error::RunError;
pub use folder::RunFolder;
pub use manifest::{PhaseRecord, RunManifest};

use crate::{
    config::{NumericsPolicy, RunConfig},
    engine::{self, PhaseContext, Precision, TorchNetwork},
    events::EventSink,
    export::{self, ExportError, ExportSource, ExportedModel},
    metrics::RunUnderWay,
    publish::{self, ModelUpload},
    soft_targets::{SoftTargetSource, SoftTargetSupply, SupplyContext},
};
pub(crate) use data::TrainingData;

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

/// Trains as `config` says and leaves everything in `folder`, which is made where it is missing.
///
/// Blocks for as long as training takes: call it from a thread of its own, outside of tokio's.
/// Network traffic (teachers, publishing) runs on `runtime`. Cancelling `cancel` ends it between two
/// steps with [`RunError::Cancelled`].
///
/// # Errors
/// See [`RunError`]. Nothing half-written is left under a final name.
pub fn execute(
    config: RunConfig,
    folder: &Path,
    events: &EventSink,
    cancel: &CancellationToken,
    runtime: &Handle,
) -> Result<RunOutcome, RunError> {
    if config.export.onnx {
        // Now rather than after the training.
        onnx_runtime::load_library()
            .map_err(SessionError::from)
            .map_err(ExportError::from)?;
    }
    let config_toml = config.to_toml();
    let folder = RunFolder::create(folder, &config_toml)?;
    let data = TrainingData::load(&config)?;
    let threads = engine::set_threads(config.threads);
    let _gauges = RunUnderWay::begin();
    let run = Run {
        events: crate::metrics::follow(&metrics::log_to(&folder.metrics(), events)?),
        config_sha256: Sha256::of(config_toml.as_bytes()),
        precision: config.precision.resolve(),
        started: Instant::now(),
        config,
        folder,
        data,
        threads,
        cancel,
        runtime,
    };
    run.execute()
}

/// A run under way.
struct Run<'r> {
    config: RunConfig,
    config_sha256: Sha256,
    folder: RunFolder,
    data: TrainingData,
    precision: Precision,
    threads: usize,
    events: EventSink,
    cancel: &'r CancellationToken,
    runtime: &'r Handle,
    started: Instant,
}

impl Run<'_> {
    fn execute(&self) -> Result<RunOutcome, RunError> {
        let initial = Weights::initial(&self.config.network, self.config.seed)?;
        let network = TorchNetwork::new(&self.config.network, &initial, Device::Cpu)?;
        let supply = self.soft_targets()?;
        let phases = supply.while_training(|source| self.train(&network, source))?;

        let hard_label_batches = supply.hard_label_batches();
        if hard_label_batches > 0 {
            self.events.notices().notice(format!(
                "{hard_label_batches} batches were trained on hard labels alone because no teacher was \
                 there; the run is marked as not reproducible"
            ));
        }

        let weights = network.weights()?;
        let artifact = ModelFolder::new(self.folder.artifact());
        artifact.write(&self.model_file(), &weights)?;
        let numerics = numerics(&network, self.precision)?;
        let mut manifest = RunManifest {
            format_version: manifest::FORMAT_VERSION,
            name: self.folder.name(),
            seed: self.config.seed,
            config_sha256: self.config_sha256.clone(),
            threads: self.threads,
            precision: self.precision,
            numerics: numerics.descriptor,
            probe_sha256: numerics.probe_sha256,
            retort_version: env!("CARGO_PKG_VERSION").to_owned(),
            dataset: self.data.fingerprint.clone(),
            train_samples: self.data.train.len(),
            validation_samples: self.data.validation.as_ref().map_or(0, Dataset::len),
            teacher: supply.teacher().cloned(),
            bit_reproducible: self.is_bit_reproducible() && hard_label_batches == 0,
            hard_label_batches,
            model_id: model_id(&self.config.network, &weights)?,
            phases,
            onnx_sha256: None,
            published_version: None,
            seconds: 0.0,
        };
        // From here on no teacher is needed.
        drop(supply);
        if self.config.export.onnx {
            let model = self.export(&network, &weights)?;
            let upload = self.write_onnx(&artifact, model, &manifest)?;
            manifest.onnx_sha256 = Some(Sha256::of(&upload.onnx));
            manifest.published_version = self.publish(&upload)?;
        }
        manifest.seconds = self.started.elapsed().as_secs_f64();
        common::atomic_file::write(&self.folder.manifest(), &manifest.to_json())?;
        Ok(RunOutcome {
            validation_accuracy: manifest.validation_accuracy(),
            onnx_sha256: manifest.onnx_sha256,
            published_version: manifest.published_version,
        })
    }

    fn soft_targets(&self) -> Result<SoftTargetSupply<'_>, RunError> {
        let context = SupplyContext {
            config: &self.config,
            train: &self.data.train,
            cancel: self.cancel,
            runtime: self.runtime,
        };
        SoftTargetSupply::prepare(context, self.events.notices())
    }

    fn train(
        &self,
        network: &TorchNetwork,
        soft_targets: Option<SoftTargetSource<'_>>,
    ) -> Result<Vec<PhaseRecord>, RunError> {
        let views = self.config.soft_targets.as_ref();
        let views = views.and_then(|targets| targets.fixed_views());
        let mut records = Vec::new();
        for (index, phase) in self.config.phases.iter().enumerate() {
            let started = Instant::now();
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
                    events: &self.events,
                    cancel: self.cancel,
                },
            )?;
            let folder = ModelFolder::new(self.folder.phase(index, phase.kind()));
            folder.write(&self.model_file(), &network.weights()?)?;
            let seconds = started.elapsed().as_secs_f64();
            records.push(PhaseRecord::new(phase.kind(), summary, seconds));
        }
        Ok(records)
    }

    fn model_file(&self) -> networks::ModelFile {
        networks::ModelFile {
            format_version: networks::ModelFile::FORMAT_VERSION,
            class_names: self.config.data.class_names.clone(),
            normalization_mean: self.config.data.normalization.mean.clone(),
            normalization_std: self.config.data.normalization.std.clone(),
            network: self.config.network.clone(),
        }
    }

    /// Whether the same configuration gives the same bits again.
    fn is_bit_reproducible(&self) -> bool {
        let mixed = |numerics| numerics == NumericsPolicy::Any;
        let teacher = self.config.teacher.as_ref();
        !(self.config.needs_teacher() && teacher.is_some_and(|pool| mixed(pool.numerics)))
    }

    fn export(&self, network: &TorchNetwork, weights: &Weights) -> Result<ExportedModel, RunError> {
        let source = ExportSource {
            spec: &self.config.network,
            weights,
            network,
            images: self.data.validation.as_ref().unwrap_or(&self.data.train),
            normalization: &self.config.data.normalization,
        };
        let model = export::export(source, &self.config.export)?;
        self.events.notices().notice(format!(
            "exported to ONNX: {} bytes; on {} images the logits of ONNX Runtime and libtorch \
             differ by at most {:.1e}",
            model.onnx.len(),
            model.compared,
            model.largest_difference
        ));
        Ok(model)
    }

    fn write_onnx(
        &self,
        artifact: &ModelFolder,
        model: ExportedModel,
        run: &RunManifest,
    ) -> Result<ModelUpload, RunError> {
        let manifest = ArtifactManifest {
            format_version: common::manifest::FORMAT_VERSION,
            onnx: OnnxFile {
                sha256: Sha256::of(&model.onnx),
                size: model.onnx.len() as u64,
            },
            input_shape: self.config.network.input,
            class_names: self.config.data.class_names.clone(),
            preprocessing: Preprocessing {
                mean: self.config.data.normalization.mean.clone(),
                std: self.config.data.normalization.std.clone(),
            },
            golden_batch: model.golden_batch,
            // Holds: a spec's keys are strings and its numbers finite.
            network: serde_json::to_value(&self.config.network).unwrap_or_default(),
            provenance: Provenance {
                run: run.name.clone(),
                seed: run.seed,
                config_sha256: run.config_sha256.clone(),
                dataset: run.dataset.clone(),
                teacher: run.teacher.clone(),
                metrics: run.metrics(),
            },
        };
        let manifest_json = manifest.to_json();
        artifact.write_onnx(&model.onnx, &manifest_json)?;
        Ok(ModelUpload {
            onnx: model.onnx.into(),
            manifest_json: manifest_json.into(),
        })
    }

    fn publish(&self, upload: &ModelUpload) -> Result<Option<u64>, RunError> {
        let Some(config) = &self.config.publish else {
            return Ok(None);
        };
        let artifact = self.folder.artifact();
        let published =
            self.runtime
                .block_on(publish::publish(config, upload, &artifact, self.cancel))?;
        let how = match published.already_published {
            true => "was published before as",
            false => "published as",
        };
        self.events.notices().notice(format!(
            "{how} version {} of {} at {}",
            published.version, config.model, config.endpoint
        ));
        Ok(Some(published.version))
    }
}
