//! What is made of the final weights: an ONNX file, its check against libtorch, its upload.

use common::{
    digest::Sha256,
    manifest::{ArtifactManifest, OnnxFile, Preprocessing, Provenance},
};
use networks::Weights;

use super::{ModelFolder, Run, RunError, RunManifest};
use crate::{
    engine::TorchNetwork,
    export::{self, ExportSource, ExportedModel},
    publish::{self, ModelUpload},
};

impl Run<'_> {
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

    pub(super) fn write_onnx(
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
            // Training sees images of the network's own size and channels.
            preprocessing: Preprocessing::normalization(
                self.config.data.normalization.mean.clone(),
                self.config.data.normalization.std.clone(),
            ),
            golden_batch: model.golden_batch,
            // Holds: a spec's keys are strings and its numbers finite.
            network: serde_json::to_value(&self.config.network).unwrap_or_default(),
            provenance: Provenance {
                run: run.name.clone(),
                seed: run.seed,
                config_sha256: run.config_sha256.clone(),
                dataset: run.dataset.clone(),
                teacher: run.teacher.clone(),
                bit_reproducible: Some(run.bit_reproducible),
                hard_label_batches: run.hard_label_batches,
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
        self.events.notices().notice(format!(
            "{how} version {} of {} at {}",
            published.version, config.model, config.endpoint
        ));
        Ok(Some(published.version))
    }
}
