//! Exports the trained network to ONNX, compares it with libtorch and publishes it. Checks before training
//! that this will be possible.

use std::collections::BTreeMap;

use artifacts::manifest::{ArtifactManifest, GoldenBatch, OnnxFile, Preprocessing, Provenance};
use bytes::Bytes;
use common::digest::Sha256;
use datasets::{Normalization, Source, Subset};
use model_signing::{ModelFiles, SigningKey};
use networks::{
    NetworkSpec, Weights,
    onnx::{self, Range, Ranges},
};
use onnx_runtime::{CalibrationError, ModelInterface, Session, SessionOptions};
use server::upload::ModelUpload;
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;
use traces::{Parent, Span, SpanKind};

use super::{error::RunError, folder::RunFolder, manifest::RunManifest, model_folder::ModelFolder};
use crate::{
    config::{Int8Config, PublishedPrecision, RunConfig},
    engine::{FakeQuantizedNetwork, TorchNetwork},
    events::NoticeSender,
    export::{self, ExportError, ExportSource, ExportedModel},
    int8::{self, Int8Model, Int8Source},
    publish::{self, PublishCheck},
    training_data::TrainingData,
};

/// Upper bound for what the figures of a run add to the manifest of its model.
const FIGURES_BYTES: usize = 2 << 10;

/// Upper bound for what each named teacher adds.
const TEACHER_BYTES: usize = 1 << 10;

/// Of any tensor: how large and how costly a model in int8 is does not depend on the ranges of its activations.
const ANY_RANGE: Range = Range {
    min: -1.0,
    max: 1.0,
};

/// Exports and publishes the network of one run.
pub(super) struct Delivery<'r> {
    pub(super) config: &'r RunConfig,
    pub(super) config_sha256: &'r Sha256,
    pub(super) folder: &'r RunFolder,
    pub(super) data: &'r TrainingData,
    pub(super) notices: NoticeSender,
    pub(super) cancel: &'r CancellationToken,
    pub(super) runtime: &'r Handle,
}

impl Delivery<'_> {
    /// Fails if the network cannot be exported or published. This does not depend on the weights, so the
    /// run asks before it trains, with the initial ones.
    ///
    /// # Errors
    /// Those that the end of the run would report.
    pub(super) fn check(&self, initial_weights: &Weights) -> Result<(), RunError> {
        if !self.config.export.onnx {
            return Ok(());
        }
        let spec = &self.config.network;
        let mut onnx = export::to_onnx(spec, initial_weights, &self.data.normalization)
            .map_err(ExportError::from)?;
        run_once(&onnx)?;
        if self.config.export.int8.is_some() {
            let int8 = onnx::quantize(&onnx, |_| Some(ANY_RANGE)).map_err(CalibrationError::from);
            let int8 = int8.map_err(ExportError::from)?;
            run_once(&int8)?;
            if self.published_precision() == PublishedPrecision::Int8 {
                onnx = int8;
            }
        }

        let wanted = self.config.export.golden_samples;
        let golden = self.golden_samples()?;
        if golden < wanted {
            self.notices.notice(format!(
                "the model's manifest holds {golden} golden samples in place of {wanted} \
                 (export.golden_samples): with more, it would be larger than inference services take"
            ));
        }
        // The check does not compare logits.
        let logits = vec![0.0; self.config.network.classes];
        let golden_batch = GoldenBatch {
            data_type: self.data.train.kind().tensor("samples").data_type,
            samples: vec![0; export::sample_bytes(spec)],
            logits: vec![logits],
            tolerance: self.config.export.tolerance,
            relative_tolerance: self.config.export.relative_tolerance,
        };
        let provenance = Provenance {
            run: self.folder.name(),
            seed: self.config.seed,
            config_sha256: self.config_sha256.clone(),
            dataset: self.data.fingerprint.clone(),
            teacher: None,
            teachers: BTreeMap::new(),
            bit_reproducible: None,
            metrics: Default::default(),
        };
        let manifest = self.artifact_manifest(&onnx, golden_batch, provenance);
        let manifest_json = manifest.to_json();
        let more_golden = golden as u64 * export::golden_sample_bytes(spec);
        let largest_manifest_bytes =
            manifest_json.len() as u64 + self.figures_bytes() as u64 + more_golden;
        // The service checks the key too.
        let signature = match self.signing_key()? {
            Some(key) => {
                let files = ModelFiles::published(Sha256::of(&onnx), &manifest_json);
                model_signing::sign(&self.folder.name(), &files, &key)?
            }
            None => Vec::new(),
        };
        let upload = ModelUpload {
            onnx: onnx.into(),
            manifest_json: manifest_json.into(),
            signature: signature.into(),
        };
        self.check_publish(&upload, largest_manifest_bytes)
    }

    fn check_publish(&self, upload: &ModelUpload, largest_manifest: u64) -> Result<(), RunError> {
        let Some(config) = &self.config.publish else {
            return Ok(());
        };
        let span = Span::begin_as(SpanKind::Client, "check publish", Parent::Current);
        let _entered = span.enter();
        let check = publish::check(config, upload, largest_manifest, self.cancel);
        let checked = self.runtime.block_on(check);
        let checked = checked.inspect_err(|error| span.fail(error))?;
        match checked {
            PublishCheck::Passed { warnings } => self.warn_of_publish(warnings),
            PublishCheck::NotAsked { reason } => self.notices.notice(format!(
                "warning: could not check whether the inference service at {} will accept the model: {reason}; the \
                 run continues and publishes at its end",
                config.endpoint
            )),
        }
        Ok(())
    }

    /// Number of golden samples: as many as are configured and fit into the manifest.
    fn golden_samples(&self) -> Result<usize, ExportError> {
        let names = serde_json::to_vec_pretty(&self.config.data.class_names);
        let network = serde_json::to_vec_pretty(&self.config.network);
        // Each line is indented one level deeper in the manifest.
        let depth = 2 * (self.config.data.class_names.len() + 1);
        let bytes = [names, network].map(|json| json.map_or(0, |json| json.len()));
        let bytes = bytes.iter().sum::<usize>() + depth + 2 * self.figures_bytes();
        let wanted = self.config.export.golden_samples;
        export::golden_samples(wanted, bytes, &self.config.network)
    }

    fn figures_bytes(&self) -> usize {
        let teachers = self.config.all_teachers();
        let named = teachers.iter().filter(|teacher| teacher.name.is_some());
        FIGURES_BYTES + named.count() * TEACHER_BYTES
    }

    fn published_precision(&self) -> PublishedPrecision {
        let publish = self.config.publish.as_ref();
        publish.map_or_else(Default::default, |publish| publish.precision)
    }

    /// The ranges of the activations of the network with these weights, for a quantization-aware phase.
    pub(super) fn calibrate(
        &self,
        weights: &Weights,
        config: Int8Config,
    ) -> Result<Ranges, RunError> {
        let onnx = export::to_onnx(&self.config.network, weights, &self.data.normalization)
            .map_err(ExportError::from)?;
        let ranges = int8::calibrate(self.int8_source(), &onnx, config)?;
        self.notices.notice(format!(
            "the next phase is quantization-aware: {} calibration samples gave the ranges of the activations",
            self.calibration_samples(config)
        ));
        Ok(ranges)
    }

    /// Exports `network`, whose weights are `weights`: writes the ONNX model, and its form in int8 if that is
    /// configured, with their manifests and signatures, and records their digests in the manifest of the run. `trained`
    /// are the ranges of the last phase if it was quantization-aware. Returns the files to publish.
    pub(super) fn export(
        &self,
        network: &TorchNetwork,
        weights: &Weights,
        trained: Option<&Ranges>,
        run: &mut RunManifest,
    ) -> Result<ModelUpload, RunError> {
        let span = Span::begin("export");
        let _entered = span.enter();
        let model = self.to_onnx(network, weights)?;
        let int8 = self.quantize(&model, network, trained)?;
        let folder = ModelFolder::new(self.folder.artifact());
        let mut upload = self.write(&folder, model.onnx, model.golden_batch, run.metrics(), run)?;
        run.onnx_sha256 = Some(Sha256::of(&upload.onnx));
        let mut int8_upload = None;
        if let Some(int8) = int8 {
            let folder = ModelFolder::new(self.folder.int8_artifact());
            let mut metrics = run.metrics();
            metrics.insert("agreement_with_f32".to_owned(), int8.agreement);
            if let Some(difference) = int8.difference_from_training {
                let key = "difference_from_training".to_owned();
                metrics.insert(key, f64::from(difference));
            }
            let mut written = self.write(&folder, int8.onnx, int8.golden_batch, metrics, run)?;
            written.signature = self.sign(&folder)?;
            run.int8_onnx_sha256 = Some(Sha256::of(&written.onnx));
            int8_upload = Some(written);
        }
        // The last step: the signature names the folders below it.
        upload.signature = self.sign(&folder)?;
        Ok(match self.published_precision() {
            PublishedPrecision::F32 => upload,
            PublishedPrecision::Int8 => int8_upload.unwrap_or(upload),
        })
    }

    /// Signs the model in `folder` and returns the signature; empty if the run does not sign.
    fn sign(&self, folder: &ModelFolder) -> Result<Bytes, RunError> {
        Ok(match self.signing_key()? {
            Some(key) => folder.sign(&key)?.into(),
            None => Bytes::new(),
        })
    }

    fn signing_key(&self) -> Result<Option<SigningKey>, RunError> {
        match &self.config.publish {
            Some(publish) => Ok(publish.read_signing_key()?),
            None => Ok(None),
        }
    }

    /// The ONNX model of `network`, compared with it.
    fn to_onnx(
        &self,
        network: &TorchNetwork,
        weights: &Weights,
    ) -> Result<ExportedModel, RunError> {
        let source = ExportSource {
            spec: &self.config.network,
            weights,
            network,
            source: self.compared_samples(),
            normalization: &self.data.normalization,
        };
        let model = export::export(source, &self.config.export, self.golden_samples()?)?;
        self.notices.notice(format!(
            "exported to ONNX: {} bytes; on {} samples the logits of ONNX Runtime and libtorch \
             differ by at most {:.1e}",
            model.onnx.len(),
            model.compared,
            model.largest_difference
        ));
        Ok(model)
    }

    fn compared_samples(&self) -> &Subset {
        self.data.validation.as_ref().unwrap_or(&self.data.train)
    }

    /// The exported model in int8, if the run is to write it, with the `trained` ranges if there are any.
    fn quantize(
        &self,
        model: &ExportedModel,
        network: &TorchNetwork,
        trained: Option<&Ranges>,
    ) -> Result<Option<Int8Model>, RunError> {
        let Some(config) = self.config.export.int8 else {
            return Ok(None);
        };
        let source = self.int8_source();
        let (int8, how) = match trained {
            Some(ranges) => {
                let trained = FakeQuantizedNetwork::new(network, ranges);
                let trained = trained.map_err(ExportError::from)?;
                let int8 = int8::quantize(source, model, ranges, Some(&trained))?;
                (int8, "the ranges of its training".to_owned())
            }
            None => {
                let ranges = int8::calibrate(source, &model.onnx, config)?;
                let samples = self.calibration_samples(config);
                let int8 = int8::quantize(source, model, &ranges, None)?;
                (int8, format!("{samples} calibration samples"))
            }
        };
        self.notices.notice(format!(
            "quantized to int8 with {how}: {} bytes; on {} samples it gives the class of the model in f32 to {:.2} %",
            int8.onnx.len(),
            model.compared,
            100.0 * int8.agreement
        ));
        if let Some(difference) = int8.difference_from_training {
            self.notices.notice(format!(
                "in int8, the logits of ONNX Runtime and of quantization-aware training differ by at most {:.2} % of a \
                 sample's largest",
                100.0 * difference
            ));
        }
        Ok(Some(int8))
    }

    fn int8_source(&self) -> Int8Source<'_> {
        Int8Source {
            spec: &self.config.network,
            normalization: &self.data.normalization,
            train: &self.data.train,
            source: self.compared_samples(),
        }
    }

    fn calibration_samples(&self, config: Int8Config) -> usize {
        config.calibration_samples.min(self.data.train.len())
    }

    /// Writes an ONNX file and its manifest; returns them for the upload, without a signature.
    fn write(
        &self,
        folder: &ModelFolder,
        onnx: Vec<u8>,
        golden_batch: GoldenBatch,
        metrics: BTreeMap<String, f64>,
        run: &RunManifest,
    ) -> Result<ModelUpload, RunError> {
        let teachers = run.teachers.iter();
        let teachers = teachers.map(|(name, used)| (name.clone(), used.identity.clone()));
        let provenance = Provenance {
            run: run.name.clone(),
            seed: run.seed,
            config_sha256: run.config_sha256.clone(),
            dataset: run.dataset.clone(),
            teacher: run.teacher.clone(),
            teachers: teachers.collect(),
            bit_reproducible: Some(run.bit_reproducible),
            metrics,
        };
        let manifest = self.artifact_manifest(&onnx, golden_batch, provenance);
        let manifest_json = manifest.to_json();
        folder.write_onnx(&onnx, &manifest_json)?;
        Ok(ModelUpload {
            onnx: onnx.into(),
            manifest_json: manifest_json.into(),
            signature: Bytes::new(),
        })
    }

    fn artifact_manifest(
        &self,
        onnx: &[u8],
        golden_batch: GoldenBatch,
        provenance: Provenance,
    ) -> ArtifactManifest {
        let NetworkSpec { input, classes, .. } = self.config.network;
        let interface = ModelInterface {
            sample: input.dimensions(),
            classes,
        };
        // The training images have the network's own size and channels.
        let preprocessing = input.image().is_ok().then(|| {
            let Normalization { mean, std } = self.data.normalization.clone();
            Preprocessing {
                ground: self.config.data.ground.0,
                ..Preprocessing::normalization(mean, std)
            }
        });
        ArtifactManifest {
            format_version: artifacts::manifest::FORMAT_VERSION,
            onnx: OnnxFile {
                sha256: Sha256::of(onnx),
                size: onnx.len() as u64,
            },
            signature: interface.signature(),
            class_names: self.config.data.class_names.clone(),
            preprocessing,
            golden_batch,
            // Holds: a spec's keys are strings and its numbers finite.
            network: serde_json::to_value(&self.config.network).unwrap_or_default(),
            provenance,
        }
    }

    /// Publishes the model, if the run is to; returns its version.
    pub(super) fn publish(&self, upload: &ModelUpload) -> Result<Option<u64>, RunError> {
        let Some(config) = &self.config.publish else {
            return Ok(None);
        };
        let artifact = match config.precision {
            PublishedPrecision::F32 => self.folder.artifact(),
            PublishedPrecision::Int8 => self.folder.int8_artifact(),
        };
        let span = Span::begin_as(SpanKind::Client, "publish", Parent::Current)
            .with("retort.model", config.model.clone());
        let _entered = span.enter();
        let publish = publish::publish(config, upload, &artifact, self.cancel);
        let published = self.runtime.block_on(publish);
        let published = published.inspect_err(|error| span.fail(error))?;
        let how = if published.already_published {
            "was published before as"
        } else {
            "published as"
        };
        let serving = match published.active_version {
            // A service of an older version reports 0.
            active if active == published.version || active == 0 => String::new(),
            active if published.canary => {
                format!("; it is a canary beside version {active}, see `retort models versions`")
            }
            active => format!(
                "; version {active} was activated since and serves, see `retort models activate`"
            ),
        };
        self.notices.notice(format!(
            "{how} version {} of {} at {}{serving}",
            published.version, config.model, config.endpoint
        ));
        self.warn_of_publish(published.warnings);
        Ok(Some(published.version))
    }

    fn warn_of_publish(&self, warnings: Vec<String>) {
        for warning in warnings {
            self.notices.notice(format!("warning: {warning}"));
        }
    }
}

/// Fails if ONNX Runtime cannot compute the model.
fn run_once(onnx: &[u8]) -> Result<(), ExportError> {
    let mut session = Session::load(onnx, SessionOptions::default())?;
    let sample = vec![0.0; session.interface().sample_values()];
    session.run(&sample, 1)?;
    Ok(())
}
