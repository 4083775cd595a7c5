//! `manifest.json`, the description of a published `model.onnx`.

use std::collections::BTreeMap;

use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use common::digest::Sha256;

/// The format that this build writes, and the newest that it reads.
pub const FORMAT_VERSION: u32 = 1;

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
    /// Shape of one input image: [channels, height, width].
    pub input_shape: [usize; 3],
    /// In the order of the logits, one per logit.
    pub class_names: Vec<String>,
    /// How u8 pixels become the model's input.
    pub preprocessing: Preprocessing,
    /// Real images with the logits that the model must compute for them.
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

/// How an image is converted to the model's input: to the model's channels, to its size, then
/// `(x / 255 - mean) / std` per channel.
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
}

impl Preprocessing {
    /// The preprocessing of a model that was trained on images of its own size and channels.
    pub fn normalization(mean: Vec<f32>, std: Vec<f32>) -> Self {
        Self {
            mean,
            std,
            grayscale: false,
            resize: Resize::default(),
        }
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

/// A few images with the logits that the exporter's engine computed for them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GoldenBatch {
    /// u8 pixels before preprocessing, [images, channels, height, width]; base64 in the file.
    #[serde(serialize_with = "to_base64", deserialize_with = "from_base64")]
    pub images: Vec<u8>,
    /// [images][classes]
    pub logits: Vec<Vec<f32>>,
    /// Largest difference between equal logits, plus `relative_tolerance` times the largest logit of the image.
    pub tolerance: f32,
    /// See `tolerance`; 0 if the manifest is older than this field.
    #[serde(default)]
    pub relative_tolerance: f32,
}

impl GoldenBatch {
    /// The largest permitted difference of a logit of an image with the logits `expected`.
    pub fn allowed_difference(&self, expected: &[f32]) -> f32 {
        allowed_difference(self.tolerance, self.relative_tolerance, expected)
    }
}

/// The largest permitted difference of a logit of an image with the logits `expected`: an absolute and a
/// relative part, as in `numpy.allclose`. The relative part refers to the image's largest logit, because the
/// terms of all logits, and so their rounding errors, have a similar magnitude.
pub fn allowed_difference(absolute: f32, relative: f32, expected: &[f32]) -> f32 {
    let largest = expected
        .iter()
        .fold(0.0f32, |largest, logit| largest.max(logit.abs()));
    absolute + relative * largest
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
    /// `None` if the model was trained without a teacher.
    pub teacher: Option<TeacherIdentity>,
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
        if format_version > FORMAT_VERSION {
            return Err(ManifestError::NewerFormat {
                found: format_version,
            });
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

    /// Number of images in the golden batch.
    pub fn golden_images(&self) -> usize {
        self.golden_batch.logits.len()
    }

    fn check(&self) -> Result<(), ManifestError> {
        let fail = |field, problem: String| Err(ManifestError::Inconsistent { field, problem });
        let [channels, height, width] = self.input_shape;
        let Some(pixels) = channels
            .checked_mul(height)
            .and_then(|product| product.checked_mul(width))
            .filter(|product| *product > 0)
        else {
            return fail("input_shape", "every dimension must be 1 or more".into());
        };
        for (field, values) in [
            ("preprocessing.mean", &self.preprocessing.mean),
            ("preprocessing.std", &self.preprocessing.std),
        ] {
            if values.len() != channels {
                let found = values.len();
                return fail(field, format!("{found} values for {channels} channels"));
            }
            if !values.iter().all(|value| value.is_finite()) {
                return fail(field, "every value must be finite".into());
            }
        }
        if !self.preprocessing.std.iter().all(|std| *std > 0.0) {
            return fail("preprocessing.std", "every value must be above 0".into());
        }
        if let Resize::ShorterSide(length) = self.preprocessing.resize
            && !(height.max(width)..=MAX_SIDE).contains(&length)
        {
            let least = height.max(width);
            let problem = format!("{length} is not within {least} and {MAX_SIDE}");
            return fail("preprocessing.resize.shorter_side", problem);
        }
        let classes = self.class_names.len();
        if classes == 0 {
            return fail("class_names", "at least one class is needed".into());
        }
        let golden = &self.golden_batch;
        if golden.logits.is_empty() {
            return fail("golden_batch.logits", "at least one image is needed".into());
        }
        if golden.logits.iter().any(|row| row.len() != classes) {
            return fail(
                "golden_batch.logits",
                format!("every row must have {classes} values, one a class"),
            );
        }
        if Some(golden.images.len()) != pixels.checked_mul(golden.logits.len()) {
            return fail(
                "golden_batch.images",
                format!(
                    "{} bytes, expected {} images of {pixels}",
                    golden.images.len(),
                    golden.logits.len()
                ),
            );
        }
        if !(golden.tolerance.is_finite() && golden.tolerance > 0.0) {
            return fail("golden_batch.tolerance", "must be above 0".into());
        }
        if !(0.0..1.0).contains(&golden.relative_tolerance) {
            let problem = "must be 0 or more and below 1".into();
            return fail("golden_batch.relative_tolerance", problem);
        }
        Ok(())
    }
}

fn to_base64<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&BASE64.encode(bytes))
}

fn from_base64<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
    let text = String::deserialize(deserializer)?;
    BASE64.decode(text).map_err(de::Error::custom)
}

#[cfg(test)]
mod properties;

#[cfg(test)]
mod tests {
    use super::*;

    fn example() -> serde_json::Value {
        serde_json::json!({
            "format_version": 1,
            "onnx": {"sha256": Sha256::of(b"x"), "size": 1},
            "input_shape": [1, 2, 2],
            "class_names": ["a", "b"],
            "preprocessing": {"mean": [0.5], "std": [0.25]},
            "golden_batch": {"images": "AAECAw==", "logits": [[1.0, -0.1]], "tolerance": 1e-4},
            "network": {"preset": "cnn"},
            "provenance": {
                "run": "demo", "seed": 1, "config_sha256": Sha256::of(b"c"), "dataset": "d",
                "teacher": null, "metrics": {"test_accuracy": 0.9},
            },
        })
    }

    fn parse(value: &serde_json::Value) -> Result<ArtifactManifest, ManifestError> {
        ArtifactManifest::from_json(value.to_string().as_bytes())
    }

    #[test]
    fn round_trips() {
        let manifest = parse(&example()).unwrap();
        assert_eq!(manifest.golden_batch.images, [0, 1, 2, 3]);
        let again = ArtifactManifest::from_json(&manifest.to_json()).unwrap();
        assert_eq!(again, manifest);
    }

    #[test]
    fn provenance_of_older_versions_is_read() {
        let oldest = parse(&example()).unwrap().provenance;
        assert_eq!(oldest.bit_reproducible, None);
        let mut manifest = example();
        manifest["provenance"]["bit_reproducible"] = false.into();
        manifest["provenance"]["hard_label_batches"] = 7.into();
        let manifest = parse(&manifest).unwrap();
        let again = ArtifactManifest::from_json(&manifest.to_json()).unwrap();
        assert_eq!(again.provenance.bit_reproducible, Some(false));
        assert_eq!(again, manifest);
    }

    #[test]
    fn preprocessing_of_images_is_optional() {
        let mut manifest = example();
        let parsed = parse(&manifest).unwrap().preprocessing;
        assert_eq!((parsed.grayscale, parsed.resize), (false, Resize::Cover));
        for (json, expected) in [
            (serde_json::json!("stretch"), Resize::Stretch),
            (serde_json::json!("none"), Resize::None),
            (
                serde_json::json!({"shorter_side": 256}),
                Resize::ShorterSide(256),
            ),
        ] {
            manifest["preprocessing"]["resize"] = json;
            assert_eq!(parse(&manifest).unwrap().preprocessing.resize, expected);
        }
        for wrong in [
            serde_json::json!({"shorter_side": 1}),
            serde_json::json!({"shorter_side": 1_000_000}),
            serde_json::json!("crop"),
        ] {
            manifest["preprocessing"]["resize"] = wrong;
            let error = parse(&manifest).unwrap_err().to_string();
            assert!(error.contains("preprocessing.resize"), "{error}");
        }
    }

    #[test]
    fn the_relative_tolerance_grows_with_the_logits() {
        let mut manifest = example();
        let older = parse(&manifest).unwrap().golden_batch;
        assert_eq!(older.allowed_difference(&[179.0, -3.0]), 1e-4);
        manifest["golden_batch"]["relative_tolerance"] = 1e-5.into();
        let golden = parse(&manifest).unwrap().golden_batch;
        for (logits, allowed) in [([0.0, 0.0], 1e-4), ([-179.0, 3.0], 1e-4 + 1.79e-3)] {
            let found = golden.allowed_difference(&logits);
            assert!((found - allowed).abs() < 1e-7, "{found}");
        }
        assert!(!golden.allowed_difference(&[f32::INFINITY]).is_finite());
        manifest["golden_batch"]["relative_tolerance"] = 1.into();
        let error = parse(&manifest).unwrap_err().to_string();
        assert!(error.contains("golden_batch.relative_tolerance"), "{error}");
    }

    #[test]
    fn errors_name_the_field() {
        let cases: [(&str, serde_json::Value, &str); 10] = [
            ("/format_version", 2.into(), "format_version 2 is newer"),
            ("/onnx/sha256", "abc".into(), "onnx.sha256"),
            ("/onnx/size", (-1).into(), "onnx.size"),
            ("/input_shape/1", 0.into(), "input_shape"),
            ("/class_names", serde_json::json!([]), "class_names"),
            (
                "/class_names",
                serde_json::json!(["a"]),
                "golden_batch.logits",
            ),
            ("/preprocessing/std/0", 0.into(), "preprocessing.std"),
            (
                "/preprocessing/mean",
                serde_json::json!([0, 0]),
                "preprocessing.mean",
            ),
            ("/golden_batch/images", "AAEC".into(), "golden_batch.images"),
            (
                "/golden_batch/tolerance",
                0.into(),
                "golden_batch.tolerance",
            ),
        ];
        for (pointer, value, named) in cases {
            let mut changed = example();
            *changed.pointer_mut(pointer).unwrap() = value;
            let error = parse(&changed).expect_err(pointer).to_string();
            assert!(error.contains(named), "{pointer}: {error}");
        }
    }
}
