//! Samples with known logits, against which a server checks a model.

use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use tensors::DataType;

use super::{ManifestError, fail};

/// A few samples with the logits that the exporter's engine computed for them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GoldenBatch {
    /// Type of the samples' values: UINT8 for images, otherwise that of the model's input.
    pub data_type: DataType,
    /// Samples before preprocessing, row-major and little-endian: images [samples, channels, height, width], rows
    /// [samples, values]; base64 in the file.
    #[serde(serialize_with = "to_base64", deserialize_with = "from_base64")]
    pub samples: Vec<u8>,
    /// [samples][classes]
    pub logits: Vec<Vec<f32>>,
    /// Largest difference between equal logits, plus `relative_tolerance` times the largest logit of the sample.
    pub tolerance: f32,
    /// See `tolerance`.
    #[serde(default)]
    pub relative_tolerance: f32,
}

impl GoldenBatch {
    /// The largest permitted difference of a logit of a sample with the logits `expected`.
    pub fn allowed_difference(&self, expected: &[f32]) -> f32 {
        allowed_difference(self.tolerance, self.relative_tolerance, expected)
    }

    /// The samples' values, if they are f32.
    pub fn f32_values(&self) -> Option<Vec<f32>> {
        let (values, _) = self.samples.as_chunks();
        let values = values.iter().map(|value| f32::from_le_bytes(*value));
        (self.data_type == DataType::Fp32).then(|| values.collect())
    }

    /// Checks the batch of a model with samples of `values` values of `data_type` and this number of classes.
    pub(super) fn check(
        &self,
        data_type: DataType,
        values: usize,
        classes: usize,
    ) -> Result<(), ManifestError> {
        if self.logits.is_empty() {
            let problem = "at least one sample is needed";
            return Err(fail("golden_batch.logits", problem));
        }
        if self.logits.iter().any(|row| row.len() != classes) {
            let problem = format!("every row must have {classes} values, one a class");
            return Err(fail("golden_batch.logits", problem));
        }
        if self.data_type != data_type {
            let problem = format!("is {}, but the samples are {data_type}", self.data_type);
            return Err(fail("golden_batch.data_type", problem));
        }
        let count = self.logits.len();
        let bytes = data_type.size().and_then(|size| values.checked_mul(size));
        if Some(self.samples.len()) != bytes.and_then(|bytes| bytes.checked_mul(count)) {
            let found = self.samples.len();
            let problem = format!(
                "{found} bytes, expected {count} samples of {values} values of type {data_type}"
            );
            return Err(fail("golden_batch.samples", problem));
        }
        let finite = |values: Vec<f32>| values.iter().all(|value| value.is_finite());
        if !self.f32_values().is_none_or(finite) {
            let problem = "every value must be finite";
            return Err(fail("golden_batch.samples", problem));
        }
        if !(self.tolerance.is_finite() && self.tolerance > 0.0) {
            return Err(fail("golden_batch.tolerance", "must be above 0"));
        }
        if !(0.0..1.0).contains(&self.relative_tolerance) {
            let problem = "must be 0 or more and below 1";
            return Err(fail("golden_batch.relative_tolerance", problem));
        }
        Ok(())
    }
}

/// The largest permitted difference of a logit of a sample with the logits `expected`: an absolute and a
/// relative part, as in `numpy.allclose`. The relative part refers to the sample's largest logit, because the
/// terms of all logits, and so their rounding errors, have a similar magnitude.
pub fn allowed_difference(absolute: f32, relative: f32, expected: &[f32]) -> f32 {
    let largest = expected
        .iter()
        .fold(0.0f32, |largest, logit| largest.max(logit.abs()));
    absolute + relative * largest
}

fn to_base64<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&BASE64.encode(bytes))
}

fn from_base64<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
    let text = String::deserialize(deserializer)?;
    BASE64.decode(text).map_err(de::Error::custom)
}
