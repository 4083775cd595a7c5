//! `manifest.json` of a run folder: what decided the bits, and the results.

use std::{collections::BTreeMap, fs, io, path::Path};

use artifacts::manifest::TeacherIdentity;
use common::{config::is_default, digest::Sha256};
use networks::ModelId;
use serde::{Deserialize, Serialize};
use soft_targets::consumption::Consumption;

use super::{gate_verdict::GateVerdict, teachers::UsedTeacher};
use crate::{
    config::{PhaseConfig, PhaseKind},
    engine::{PhaseSummary, Precision},
};

/// The format that is written, and the newest that is read.
pub(super) const FORMAT_VERSION: u32 = 1;

/// Name of the file in a run's folder.
pub(super) const FILE: &str = "manifest.json";

/// The settings and inputs that determined the bits of a run, and its results.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunManifest {
    /// 1.
    pub format_version: u32,
    /// Name of the run: that of its folder.
    pub name: String,
    /// Seed of every random choice.
    pub seed: u64,
    /// SHA-256 of `config.toml`.
    pub config_sha256: Sha256,
    /// Compute threads.
    pub threads: usize,
    /// Number format of convolutions and linear layers.
    pub precision: Precision,
    /// Precision, device, instruction set and libtorch version, as text.
    pub numerics: String,
    /// SHA-256 of the trained network's logits of a fixed probe batch.
    pub probe_sha256: String,
    /// Version of Retort.
    pub retort_version: String,
    /// Fingerprint of the training split, or of the sample of it that the run trains on.
    pub dataset: String,
    /// SHA-256 of the file with the initial weights, if they were not random.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub initial_weights_sha256: Option<Sha256>,
    /// Number of training images.
    pub train_samples: usize,
    /// Number of training images that have a label, if not all have one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub labelled_samples: Option<usize>,
    /// Number of validation images.
    pub validation_samples: usize,
    /// Fingerprint of the validation samples, if there are any; manifests of older versions lack it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub validation_dataset: Option<String>,
    /// The teacher whose soft targets were used, if it has no name.
    pub teacher: Option<TeacherIdentity>,
    /// Digest of the order into which that teacher's classes were brought, if it is not that of the data.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub class_order: Option<Sha256>,
    /// The named teachers whose soft targets were used.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub teachers: BTreeMap<String, UsedTeacher>,
    /// False if the run allowed teachers of different numerics, or was resumed under other numerics.
    pub bit_reproducible: bool,
    /// SHA-256 of architecture and final weights.
    pub model_id: ModelId,
    /// Number of trainable parameters; manifests of older versions lack it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parameters: Option<u64>,
    /// The phases, in order.
    pub phases: Vec<PhaseRecord>,
    /// SHA-256 of `artifact/model.onnx`.
    pub onnx_sha256: Option<Sha256>,
    /// SHA-256 of `artifact/int8/model.onnx`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub int8_onnx_sha256: Option<Sha256>,
    /// What `[publish.gate]` found. If the model misses a bound, it was not published.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub publish_gate: Option<GateVerdict>,
    /// Version of the published model.
    pub published_version: Option<u64>,
    /// Wall-clock time of the whole run.
    pub seconds: f64,
}

/// The results of one phase.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PhaseRecord {
    /// What the phase did.
    pub kind: PhaseKind,
    /// Whether the network computed as its form in int8 does; the validation accuracy is that of this form.
    #[serde(default, skip_serializing_if = "is_default")]
    pub quantization_aware: bool,
    /// Samples trained on, over all epochs.
    pub consumed_samples: u64,
    /// Digest of the training data, in order; see [`Consumption`].
    pub consumed_sha256: Sha256,
    /// With early stopping, the epoch whose weights the phase keeps: its best, 1-based. Otherwise absent, and the
    /// last epoch counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub best_epoch: Option<usize>,
    /// Mean over that epoch's samples.
    pub train_loss: f64,
    /// Accuracy of that epoch on augmented samples that have a label, 0 to 1; absent if none has one.
    pub train_accuracy: Option<f64>,
    /// Accuracy after that epoch, if there is a validation split; 0 to 1.
    pub validation_accuracy: Option<f64>,
    /// Wall-clock time.
    pub seconds: f64,
}

impl PhaseRecord {
    pub(super) fn new(phase: &PhaseConfig, summary: PhaseSummary) -> Self {
        let Consumption { samples, sha256 } = summary.consumed;
        Self {
            kind: phase.kind(),
            quantization_aware: phase.quantization_aware,
            consumed_samples: samples,
            consumed_sha256: sha256,
            best_epoch: summary.best_epoch,
            train_loss: summary.epoch.train_loss,
            train_accuracy: summary.epoch.train_accuracy,
            validation_accuracy: summary.epoch.validation_accuracy,
            seconds: summary.seconds,
        }
    }
}

impl RunManifest {
    /// Reads the manifest of the finished run in `folder`.
    ///
    /// # Errors
    /// If it cannot be read, or is of a newer version; the text names the file.
    pub fn read(folder: &Path) -> io::Result<Self> {
        /// The version first: the rest of a newer manifest may be anything.
        #[derive(Deserialize)]
        struct Version {
            format_version: u32,
        }
        let file = folder.join(FILE);
        let read = || {
            let bytes = fs::read(&file)?;
            let Version { format_version } = serde_json::from_slice(&bytes)?;
            if format_version > FORMAT_VERSION {
                return Err(io::Error::other(format!(
                    "format_version {format_version} is newer than {FORMAT_VERSION}, the newest that this build reads"
                )));
            }
            Ok(serde_json::from_slice(&bytes)?)
        };
        read().map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", file.display())))
    }

    /// Returns pretty JSON with a final newline.
    pub fn to_json(&self) -> Vec<u8> {
        // Holds: keys are strings, and non-finite floats become null.
        let mut json = serde_json::to_vec_pretty(self).expect("a manifest serializes");
        json.push(b'\n');
        json
    }

    /// Whether this is a run of the resolved configuration `config_toml`.
    pub(super) fn is_of(&self, config_toml: &str) -> bool {
        self.config_sha256 == Sha256::of(config_toml.as_bytes())
    }

    /// Whether the publish gate withheld the model.
    pub(super) fn is_withheld(&self) -> bool {
        let verdict = self.publish_gate.as_ref();
        verdict.is_some_and(|verdict| !verdict.is_met())
    }

    /// The teacher, if the run has one alone.
    pub(super) fn only_teacher(&self) -> Option<&TeacherIdentity> {
        let named = self.teachers.values().map(|teacher| &teacher.identity);
        let mut teachers = self.teacher.iter().chain(named);
        teachers.next().filter(|_| teachers.next().is_none())
    }

    /// Samples trained on, over all phases and epochs.
    pub(super) fn consumed_samples(&self) -> u64 {
        self.phases.iter().map(|phase| phase.consumed_samples).sum()
    }

    /// Accuracy of the final weights on the validation split, if there is one.
    pub fn validation_accuracy(&self) -> Option<f64> {
        self.phases.last()?.validation_accuracy
    }

    /// Results of the last phase by name, for the artifact's manifest.
    pub(super) fn metrics(&self) -> BTreeMap<String, f64> {
        let mut metrics = BTreeMap::new();
        if let Some(last) = self.phases.last() {
            metrics.insert("train_loss".to_owned(), last.train_loss);
            let accuracies = [
                ("train_accuracy", last.train_accuracy),
                ("validation_accuracy", last.validation_accuracy),
            ];
            let known = accuracies
                .into_iter()
                .filter_map(|(name, value)| Some((name.to_owned(), value?)));
            metrics.extend(known);
        }
        metrics
    }
}

#[cfg(test)]
mod properties;

#[cfg(test)]
pub(crate) mod tests {
    use serde_json::{Value, json};

    use super::*;

    /// The manifest of a run whose model its publish gate withheld.
    pub fn withheld() -> Value {
        let digest = Sha256::of(b"x");
        json!({
            "format_version": 1, "name": "run", "seed": 7, "config_sha256": digest, "threads": 2,
            "precision": "f32", "numerics": "n", "probe_sha256": "p", "retort_version": "0.1.0",
            "dataset": "d", "train_samples": 10, "validation_samples": 2, "validation_dataset": "v",
            "teacher": null, "bit_reproducible": true, "model_id": digest, "parameters": 7850,
            "phases": [{
                "kind": "supervised", "consumed_samples": 30, "consumed_sha256": digest,
                "train_loss": 0.5, "train_accuracy": 0.75, "validation_accuracy": 0.5, "seconds": 1.5,
            }],
            "onnx_sha256": digest, "published_version": null, "seconds": 2.5,
            "publish_gate": [{"bound": "min_accuracy", "wanted": 0.9, "measured": 0.5, "met": false}],
        })
    }

    #[test]
    fn a_manifest_is_read_from_a_runs_folder_and_says_whether_the_model_was_withheld() {
        let folder = tempfile::tempdir().unwrap();
        let read = |json: Value| {
            fs::write(folder.path().join(FILE), json.to_string()).unwrap();
            RunManifest::read(folder.path())
        };
        let mut json = withheld();
        assert!(read(json.clone()).unwrap().is_withheld());
        json["publish_gate"][0]["met"] = true.into();
        assert!(!read(json.clone()).unwrap().is_withheld());
        // Manifests of older versions lack it.
        json.as_object_mut().unwrap().remove("publish_gate");
        assert!(!read(json).unwrap().is_withheld());
        let error = read(json!({"format_version": 2})).unwrap_err().to_string();
        assert!(
            error.contains("manifest.json: format_version 2 is newer than 1"),
            "{error}"
        );
    }
}
