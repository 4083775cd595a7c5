//! What is made of the final weights: an ONNX file, its check against libtorch, its upload; and whether
//! that will be possible, before there are any.

use artifacts::manifest::{ArtifactManifest, GoldenBatch, OnnxFile, Preprocessing, Provenance};
use common::digest::Sha256;
use networks::{Weights, onnx};
use onnx_runtime::{Session, SessionOptions};

use super::{ModelFolder, Run, RunError, RunManifest};
use crate::{
    engine::TorchNetwork,
    export::{self, ExportError, ExportSource, ExportedModel},
    publish::{self, ModelUpload, PublishCheck},
};

/// More than the figures of a run add to the manifest of its model.
const FIGURES_BYTES: usize = 2 << 10;

impl Run<'_> {
    /// Whether the network can be exported and published, which its weights do not decide: to be asked with
    /// the initial ones, before anything is trained.
    ///
    /// # Errors
    /// What would be refused at the run's end.
    pub(super) fn check_delivery(&self, initial: &Weights) -> Result<(), RunError> {
        if !self.config.export.onnx {
            return Ok(());
        }
        let onnx = onnx::export(&self.config.network, initial).map_err(ExportError::from)?;
        let mut session =
            Session::load(&onnx, SessionOptions::default()).map_err(ExportError::from)?;
        let sample = vec![0.0; session.interface().sample_values()];
        session.run(&sample, 1).map_err(ExportError::from)?;
        drop(session);

        let wanted = self.config.export.golden_samples;
        let golden = self.golden_samples()?;
        if golden < wanted {
            self.events.notices().notice(format!(
                "the model's manifest holds {golden} golden samples in place of {wanted} \
                 (export.golden_samples): with more, it would be larger than inference services take"
            ));
        }
        // Logits are not looked at.
        let logits = vec![0.0; self.config.network.classes];
        let golden_batch = GoldenBatch {
            images: vec![0; self.config.network.input.iter().product()],
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
            bit_reproducible: None,
            metrics: Default::default(),
        };
        let manifest = self.artifact_manifest(&onnx, golden_batch, provenance);
        let manifest_json = manifest.to_json();
        let more_golden = golden as u64 * export::golden_sample_bytes(&self.config.network);
        let largest_manifest_bytes =
            manifest_json.len() as u64 + FIGURES_BYTES as u64 + more_golden;
        let upload = ModelUpload {
            onnx: onnx.into(),
            manifest_json: manifest_json.into(),
        };
        self.check_publish(&upload, largest_manifest_bytes)
    }

    fn check_publish(&self, upload: &ModelUpload, largest_manifest: u64) -> Result<(), RunError> {
        let Some(config) = &self.config.publish else {
            return Ok(());
        };
        let checked = self.context.runtime.block_on(publish::check(
            config,
            upload,
            largest_manifest,
            self.context.cancel,
        ))?;
        match checked {
            PublishCheck::Passed { warnings } => self.warn_of_publish(warnings),
            PublishCheck::NotAsked { reason } => self.events.notices().notice(format!(
                "warning: whether the inference service at {} will take the model is not known: {reason}; the run \
                 goes on, and publishes at its end",
                config.endpoint
            )),
        }
        Ok(())
    }

    /// Golden samples of the manifest: as many as are asked for and fit.
    fn golden_samples(&self) -> Result<usize, ExportError> {
        let names = serde_json::to_vec_pretty(&self.config.data.class_names);
        let network = serde_json::to_vec_pretty(&self.config.network);
        // Each line stands one level deeper in the manifest.
        let depth = 2 * (self.config.data.class_names.len() + 1);
        let bytes = [names, network].map(|json| json.map_or(0, |json| json.len()));
        let bytes = bytes.iter().sum::<usize>() + depth + 2 * FIGURES_BYTES;
        let wanted = self.config.export.golden_samples;
        export::golden_samples(wanted, bytes, &self.config.network)
    }

    pub(super) fn export(
        &self,
        network: &TorchNetwork,
        weights: &Weights,
    ) -> Result<ExportedModel, RunError> {
        let source = ExportSource {
            spec: &self.config.network,
            weights,
            network,
            images: self.data.validation.as_ref().unwrap_or(&self.data.train),
            normalization: &self.config.data.normalization,
        };
        let model = export::export(source, &self.config.export, self.golden_samples()?)?;
        self.events.notices().notice(format!(
            "exported to ONNX: {} bytes; on {} images the logits of ONNX Runtime and libtorch \
             differ by at most {:.1e}",
            model.onnx.len(),
            model.compared,
            model.largest_difference
        ));
        Ok(model)
    }

    pub(super) fn write_onnx(
        &self,
        artifact: &ModelFolder,
        model: ExportedModel,
        run: &RunManifest,
    ) -> Result<ModelUpload, RunError> {
        let provenance = Provenance {
            run: run.name.clone(),
            seed: run.seed,
            config_sha256: run.config_sha256.clone(),
            dataset: run.dataset.clone(),
            teacher: run.teacher.clone(),
            bit_reproducible: Some(run.bit_reproducible),
            metrics: run.metrics(),
        };
        let manifest = self.artifact_manifest(&model.onnx, model.golden_batch, provenance);
        let manifest_json = manifest.to_json();
        artifact.write_onnx(&model.onnx, &manifest_json)?;
        Ok(ModelUpload {
            onnx: model.onnx.into(),
            manifest_json: manifest_json.into(),
        })
    }

    fn artifact_manifest(
        &self,
        onnx: &[u8],
        golden_batch: GoldenBatch,
        provenance: Provenance,
    ) -> ArtifactManifest {
        ArtifactManifest {
            format_version: artifacts::manifest::FORMAT_VERSION,
            onnx: OnnxFile {
                sha256: Sha256::of(onnx),
                size: onnx.len() as u64,
            },
            input_shape: self.config.network.input,
            class_names: self.config.data.class_names.clone(),
            // Training sees images of the network's own size and channels.
            preprocessing: Preprocessing::normalization(
                self.config.data.normalization.mean.clone(),
                self.config.data.normalization.std.clone(),
            ),
            golden_batch,
            // Holds: a spec's keys are strings and its numbers finite.
            network: serde_json::to_value(&self.config.network).unwrap_or_default(),
            provenance,
        }
    }

    pub(super) fn publish(&self, upload: &ModelUpload) -> Result<Option<u64>, RunError> {
        let Some(config) = &self.config.publish else {
            return Ok(None);
        };
        let artifact = self.folder.artifact();
        let published = self.context.runtime.block_on(publish::publish(
            config,
            upload,
            &artifact,
            self.context.cancel,
        ))?;
        let how = match published.already_published {
            true => "was published before as",
            false => "published as",
        };
        let serving = match published.active_version {
            // 0: a service that does not say it.
            active if active == published.version || active == 0 => String::new(),
            active => format!(
                "; version {active} was activated since and serves, see `retort models activate`"
            ),
        };
        self.events.notices().notice(format!(
            "{how} version {} of {} at {}{serving}",
            published.version, config.model, config.endpoint
        ));
        self.warn_of_publish(published.warnings);
        Ok(Some(published.version))
    }

    fn warn_of_publish(&self, warnings: Vec<String>) {
        for warning in warnings {
            self.events.notices().notice(format!("warning: {warning}"));
        }
    }
}
