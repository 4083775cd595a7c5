//! `manifest.json`, the description of a published `model.onnx`.

mod golden_batch;

use std::{cmp::Ordering, collections::BTreeMap};

use common::digest::Sha256;
use serde::{Deserialize, Serialize};
use tensors::{DataType, Dimensions, Signature, TensorSpec};

pub use golden_batch::{GoldenBatch, allowed_difference};

/// The format that this build writes, and the only one that it reads.
pub const FORMAT_VERSION: u32 = 2;

/// Largest manifest that is written: the default of an inference service's `publish.max_manifest_bytes`.
pub const MAX_MANIFEST_BYTES: usize = 16 << 20;

/// Longest side that images may be resized to.
const MAX_SIDE: usize = 4096;

/// Everything a server needs to check, run and explain a model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ArtifactManifest {
    /// Always [`FORMAT_VERSION`] when written.
    pub format_version: u32,
    /// The ONNX file that this manifest belongs to.
    pub onnx: OnnxFile,
    /// What the model takes and gives: one input of images, [batch, channels, height, width], or of rows,
    /// [batch, values]; and one output, the logits, [batch, classes].
    pub signature: Signature,
    /// In the order of the logits, one per logit.
    pub class_names: Vec<String>,
    /// How u8 pixels become the model's input. A model of rows has none: it takes their values as they are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preprocessing: Option<Preprocessing>,
    /// Real samples with the logits that the model must compute for them.
    pub golden_batch: GoldenBatch,
    /// The architecture, in the format of a run's configuration.
    pub network: serde_json::Value,
    /// The origin of the model.
    pub provenance: Provenance,
}

/// Identity of the ONNX file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OnnxFile {
    /// SHA-256 of the file.
    pub sha256: Sha256,
    /// Size in bytes.
    pub size: u64,
}

/// How an image is converted to the model's input: its transparent pixels to the color of the ground, then to the
/// model's channels, to its size, then `(x / 255 - mean) / std` per channel.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Preprocessing {
    /// One value per channel.
    pub mean: Vec<f32>,
    /// One value per channel, greater than 0.
    pub std: Vec<f32>,
    /// Whether a model with three channels was trained on gray images, with equal channels. A model with one
    /// channel always gets gray images.
    #[serde(default)]
    pub grayscale: bool,
    /// How an image of another size is resized before its center is cropped.
    #[serde(default)]
    pub resize: Resize,
    /// Color that shows through transparent pixels of an image: red, green, blue. By default it is white.
    #[serde(
        default = "Preprocessing::default_ground",
        skip_serializing_if = "Preprocessing::is_default_ground"
    )]
    pub ground: [u8; 3],
}

/// The input of a model of images.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ImageInput<'m> {
    /// [channels, height, width]
    pub shape: [usize; 3],
    /// How an image becomes the input.
    pub preprocessing: &'m Preprocessing,
}

impl Preprocessing {
    /// The preprocessing of a model that was trained on images of its own size and channels.
    pub fn normalization(mean: Vec<f32>, std: Vec<f32>) -> Self {
        Self {
            mean,
            std,
            grayscale: false,
            resize: Resize::default(),
            ground: Self::default_ground(),
        }
    }

    /// White.
    const fn default_ground() -> [u8; 3] {
        [255; 3]
    }

    fn is_default_ground(ground: &[u8; 3]) -> bool {
        *ground == Self::default_ground()
    }
}

/// How an image of another size is resized, bilinear with antialiasing, before its center is cropped. Only
/// [`ShorterSide`](Self::ShorterSide) changes an image of the model's own size.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Resize {
    /// To the smallest size with the same aspect ratio that covers the model's size.
    #[default]
    Cover,
    /// To this many pixels on the shorter side with the same aspect ratio: torchvision's `Resize`.
    ShorterSide(usize),
    /// To the model's size, regardless of the aspect ratio.
    Stretch,
    /// Not at all.
    None,
}

/// The origin of a model. Fields that only older versions write are ignored.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Provenance {
    /// Name of the run.
    pub run: String,
    /// The run's seed.
    pub seed: u64,
    /// SHA-256 of the run's resolved configuration file.
    pub config_sha256: Sha256,
    /// Fingerprint of the training data.
    pub dataset: String,
    /// `None` if the model was trained without a teacher, or with named ones.
    pub teacher: Option<TeacherIdentity>,
    /// The named teachers.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub teachers: BTreeMap<String, TeacherIdentity>,
    /// Whether the same configuration reproduces the same bits; `None` if the manifest is older than this field.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bit_reproducible: Option<bool>,
    /// The run's metrics by name; accuracies are fractions.
    pub metrics: BTreeMap<String, f64>,
}

/// What determines a teacher's logits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TeacherIdentity {
    /// SHA-256 of weights and architecture.
    pub model_id: String,
    /// Precision, device, instruction set and libtorch version as text.
    pub numerics: String,
    /// SHA-256 of the logits of a fixed probe batch.
    pub probe_sha256: String,
}

/// Why a manifest is invalid; the message names the field.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// The manifest is not JSON, or a field is missing, unknown or of the wrong type.
    #[error("manifest: {0}")]
    Json(String),
    /// A newer Retort wrote the manifest.
    #[error(
        "manifest: format_version {found} is newer than {FORMAT_VERSION}, the newest this build reads"
    )]
    NewerFormat {
        /// The version in the file.
        found: u32,
    },
    /// An older Retort wrote the manifest.
    #[error(
        "manifest: format_version {found} is of an older Retort, and this build reads {FORMAT_VERSION} only; \
         export the model again with this version of Retort, then publish it again"
    )]
    OlderFormat {
        /// The version in the file.
        found: u32,
    },
    /// Fields contradict each other.
    #[error("manifest: {field}: {problem}")]
    Inconsistent {
        /// Dotted path of the field.
        field: &'static str,
        /// The problem.
        problem: String,
    },
}

impl ArtifactManifest {
    /// Parses and checks a manifest.
    ///
    /// # Errors
    /// See [`ManifestError`].
    pub fn from_json(bytes: &[u8]) -> Result<Self, ManifestError> {
        #[derive(Deserialize)]
        struct Versioned {
            format_version: u32,
        }
        let parse_error = |error: serde_json::Error| ManifestError::Json(error.to_string());
        // Before the other fields, which may differ in a newer format.
        let Versioned { format_version } = serde_json::from_slice(bytes).map_err(parse_error)?;
        let found = format_version;
        match found.cmp(&FORMAT_VERSION) {
            Ordering::Less => return Err(ManifestError::OlderFormat { found }),
            Ordering::Equal => {}
            Ordering::Greater => return Err(ManifestError::NewerFormat { found }),
        }
        let mut deserializer = serde_json::Deserializer::from_slice(bytes);
        let manifest: Self = serde_path_to_error::deserialize(&mut deserializer)
            .map_err(|error| ManifestError::Json(error.to_string()))?;
        manifest.check()?;
        Ok(manifest)
    }

    /// Formats the manifest as pretty JSON with a final newline.
    pub fn to_json(&self) -> Vec<u8> {
        // Cannot fail: map keys are strings, and floats that are not finite become null.
        let mut json = serde_json::to_vec_pretty(self).expect("a manifest serializes");
        json.push(b'\n');
        json
    }

    /// The model's only input.
    pub fn input(&self) -> &TensorSpec {
        // Holds: a manifest that was read has one, and so has every model that is written.
        &self.signature.inputs[0]
    }

    /// What the model takes if its samples are images.
    pub fn images(&self) -> Option<ImageInput<'_>> {
        let preprocessing = self.preprocessing.as_ref()?;
        let shape = self.input().dimensions.sample_shape()?.try_into().ok()?;
        Some(ImageInput {
            shape,
            preprocessing,
        })
    }

    /// Number of samples in the golden batch.
    pub fn golden_samples(&self) -> usize {
        self.golden_batch.logits.len()
    }

    fn check(&self) -> Result<(), ManifestError> {
        let classes = self.class_names.len();
        if classes == 0 {
            return Err(fail("class_names", "at least one class is needed"));
        }
        let ([input], [output]) = (&self.signature.inputs[..], &self.signature.outputs[..]) else {
            return Err(fail("signature", "one input and one output are needed"));
        };
        check_type(input, "signature.inputs")?;
        check_type(output, "signature.outputs")?;
        let sample = input.dimensions.sample_shape();
        let values = input.dimensions.sample_values().filter(|count| *count > 0);
        let (Some(sample), Some(values)) = (sample, values) else {
            let problem = format!("{input} is not a batch of samples of a fixed shape");
            return Err(fail("signature.inputs", problem));
        };
        if output.dimensions != Dimensions::batch_of(&[classes]) {
            let problem = format!("{output} is not [batch, {classes}], one logit per class");
            return Err(fail("signature.outputs", problem));
        }
        let golden_type = match (&self.preprocessing, &sample[..]) {
            (Some(preprocessing), [channels, height, width]) => {
                preprocessing.check([*channels, *height, *width])?;
                DataType::Uint8
            }
            (None, [_]) => input.data_type,
            (Some(_), _) => {
                let problem = format!("is for images, but the model takes {input}");
                return Err(fail("preprocessing", problem));
            }
            (None, [_, _, _]) => {
                return Err(fail("preprocessing", "is missing for a model of images"));
            }
            (None, _) => {
                let problem = format!("{input} is neither images nor rows");
                return Err(fail("signature.inputs", problem));
            }
        };
        self.golden_batch.check(golden_type, values, classes)
    }
}

impl Preprocessing {
    /// Checks the values for images of `shape`.
    fn check(&self, [channels, height, width]: [usize; 3]) -> Result<(), ManifestError> {
        for (field, values) in [
            ("preprocessing.mean", &self.mean),
            ("preprocessing.std", &self.std),
        ] {
            if values.len() != channels {
                let found = values.len();
                return Err(fail(
                    field,
                    format!("{found} values for {channels} channels"),
                ));
            }
            if !values.iter().all(|value| value.is_finite()) {
                return Err(fail(field, "every value must be finite"));
            }
        }
        if !self.std.iter().all(|std| *std > 0.0) {
            return Err(fail("preprocessing.std", "every value must be above 0"));
        }
        let least = height.max(width);
        match self.resize {
            Resize::ShorterSide(length) if !(least..=MAX_SIDE).contains(&length) => {
                let problem = format!("{length} is not within {least} and {MAX_SIDE}");
                Err(fail("preprocessing.resize.shorter_side", problem))
            }
            _ => Ok(()),
        }
    }
}

/// Models compute in f32.
fn check_type(tensor: &TensorSpec, field: &'static str) -> Result<(), ManifestError> {
    if tensor.data_type == DataType::Fp32 {
        Ok(())
    } else {
        Err(fail(field, format!("{tensor} is not FP32")))
    }
}

fn fail(field: &'static str, problem: impl Into<String>) -> ManifestError {
    ManifestError::Inconsistent {
        field,
        problem: problem.into(),
    }
}

#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;
