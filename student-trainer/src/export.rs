//! Exports to ONNX and compares the model with libtorch.

use artifacts::manifest::{GoldenBatch, MAX_MANIFEST_BYTES, allowed_difference};
use datasets::{DatasetError, Normalization, SampleError, Source, Values, read_plain};
use networks::{
    NetworkSpec, Shape, Weights, WeightsError,
    onnx::{self, Standardization},
};
use onnx_runtime::{CalibrationError, Session, SessionError, SessionOptions};

use crate::{
    config::ExportConfig,
    engine::{self, TorchError, TorchNetwork},
};

/// The network to export, and the images on which it is compared.
#[derive(Clone, Copy)]
pub struct ExportSource<'r> {
    /// The architecture.
    pub spec: &'r NetworkSpec,
    /// Weights of the network.
    pub weights: &'r Weights,
    /// The same network in libtorch.
    pub network: &'r TorchNetwork,
    /// Samples of the data set.
    pub source: &'r dyn Source,
    /// Applied to the samples.
    pub normalization: &'r Normalization,
}

/// An ONNX model whose logits are those of libtorch.
#[derive(Debug)]
pub struct ExportedModel {
    /// The file's bytes: the same for the same weights.
    pub onnx: Vec<u8>,
    /// Samples with libtorch's logits.
    pub golden_batch: GoldenBatch,
    /// Number of samples compared.
    pub compared: usize,
    /// Largest difference of a logit.
    pub largest_difference: f32,
}

/// Samples per call; bounds the memory of activations. Holds all golden samples.
const BATCH: usize = 250;

/// Why a network cannot be exported.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The network cannot be written as ONNX.
    #[error("cannot export to ONNX: {0}")]
    Write(#[from] WeightsError),
    /// ONNX Runtime rejects the model.
    #[error("the exported ONNX model cannot be checked: {0}")]
    Session(#[from] SessionError),
    /// A sample cannot be read; the text names its file.
    #[error(transparent)]
    Sample(#[from] SampleError),
    /// The samples for the calibration cannot be chosen.
    #[error(transparent)]
    Data(#[from] DatasetError),
    /// The model has no form in int8.
    #[error("cannot quantize the exported model (export.int8): {0}")]
    Quantize(#[from] CalibrationError),
    /// libtorch failed.
    #[error("the exported ONNX model cannot be checked: {0}")]
    Torch(#[from] TorchError),
    /// The logits of ONNX Runtime and libtorch differ.
    #[error(
        "the exported ONNX model gives other logits than libtorch: they differ by up to \
         {difference:.3e} on sample {sample}, where export.tolerance and export.relative_tolerance allow \
         {allowed:.3e}"
    )]
    Disagrees {
        /// Largest absolute difference of a logit of the sample; NaN if one is not a number.
        difference: f32,
        /// Position of the sample in the data set.
        sample: usize,
        /// The difference that is allowed.
        allowed: f32,
    },
    /// The smallest manifest of this network is too large.
    #[error(
        "the exported model's manifest would take {needed} bytes with one golden sample, and inference services \
         take {MAX_MANIFEST_BYTES}; shorten data.class_names, or set export.onnx = false"
    )]
    ManifestTooLarge {
        /// Bytes of the smallest manifest.
        needed: u64,
    },
}

/// Writes the ONNX model, batch-norm folded. A model of rows contains their standardization; pixels are
/// normalized before they are sent to a model.
///
/// # Errors
/// [`WeightsError`] if spec and weights do not fit together.
pub fn to_onnx(
    spec: &NetworkSpec,
    weights: &Weights,
    Normalization { mean, std }: &Normalization,
) -> Result<Vec<u8>, WeightsError> {
    match spec.input {
        Shape::Image { .. } => onnx::export(spec, weights),
        Shape::Vector { .. } => {
            onnx::export_standardized(spec, weights, Standardization { mean, std })
        }
    }
}

/// The normalization of samples that are sent to the ONNX model: it contains that of rows already.
pub(crate) fn outside_the_model(
    spec: &NetworkSpec,
    normalization: &Normalization,
) -> Normalization {
    match spec.input {
        Shape::Image { .. } => normalization.clone(),
        Shape::Vector { features } => Normalization::identity(features),
    }
}

/// Writes the ONNX model and compares its logits on the first samples of the data with libtorch's, both in
/// f32. The first `golden_samples` of them make the golden batch.
///
/// # Errors
/// See [`ExportError`].
pub fn export(
    source: ExportSource<'_>,
    config: &ExportConfig,
    golden_samples: usize,
) -> Result<ExportedModel, ExportError> {
    let ExportSource {
        source: samples,
        normalization,
        spec,
        ..
    } = source;
    let onnx = to_onnx(spec, source.weights, normalization)?;
    let outside_the_model = outside_the_model(spec, normalization);
    let shape = spec.input.dimensions();

    let compared = config.compare_samples.min(samples.len());
    let golden = golden_samples.min(compared);
    let mut session = Session::load(&onnx, SessionOptions::default())?;
    let (mut expected, mut found) = (Vec::new(), Vec::new());
    let mut golden_values = Vec::new();
    for first in (0..compared).step_by(BATCH) {
        let batch: Vec<u32> = (first as u32..compared.min(first + BATCH) as u32).collect();
        let values = read_plain(samples, &batch, &shape)?;
        expected.extend(engine::logits(
            source.network,
            &values,
            spec.input,
            normalization,
        )?);
        let mut input = Vec::new();
        outside_the_model.apply_to(&values, &shape, &mut input);
        found.extend(session.run(&input, batch.len())?);
        if first == 0 {
            golden_values = first_samples(values, golden, batch.len());
        }
    }

    let classes = spec.classes;
    let mut largest_difference = 0.0f32;
    let rows = expected
        .chunks_exact(classes)
        .zip(found.chunks_exact(classes));
    for (sample, (expected, found)) in rows.enumerate() {
        let difference = difference(expected, found);
        let allowed = allowed_difference(config.tolerance, config.relative_tolerance, expected);
        let agrees = difference <= allowed; // false for NaN
        if !agrees || !allowed.is_finite() {
            return Err(ExportError::Disagrees {
                difference,
                sample,
                allowed,
            });
        }
        largest_difference = largest_difference.max(difference);
    }
    Ok(ExportedModel {
        onnx,
        golden_batch: GoldenBatch {
            data_type: samples.kind().tensor("samples").data_type,
            samples: golden_values,
            logits: expected
                .chunks_exact(classes)
                .take(golden)
                .map(<[f32]>::to_vec)
                .collect(),
            tolerance: config.tolerance,
            relative_tolerance: config.relative_tolerance,
        },
        compared,
        largest_difference,
    })
}

/// The bytes of the first `count` of `samples` samples.
fn first_samples(values: Values, count: usize, samples: usize) -> Vec<u8> {
    let mut bytes = values.into_bytes();
    bytes.truncate(bytes.len() / samples * count);
    bytes
}

/// The largest difference of a logit of one sample; NaN if one is not a number.
fn difference(expected: &[f32], found: &[f32]) -> f32 {
    let differences = expected.iter().zip(found).map(|(a, b)| (a - b).abs());
    differences
        .max_by(|a, b| a.total_cmp(b))
        .unwrap_or(f32::NAN)
}

/// Number of golden samples that fit into a manifest which takes `bytes` without them; at most `wanted`.
///
/// # Errors
/// [`ExportError::ManifestTooLarge`].
pub fn golden_samples(
    wanted: usize,
    bytes: usize,
    spec: &NetworkSpec,
) -> Result<usize, ExportError> {
    let sample = golden_sample_bytes(spec);
    let free = (MAX_MANIFEST_BYTES as u64).saturating_sub(bytes as u64);
    match usize::try_from(free / sample).unwrap_or(usize::MAX) {
        0 => Err(ExportError::ManifestTooLarge {
            needed: bytes as u64 + sample,
        }),
        fitting => Ok(wanted.min(fitting)),
    }
}

/// Bytes of one sample before preprocessing.
pub fn sample_bytes(spec: &NetworkSpec) -> usize {
    match spec.input {
        Shape::Image { .. } => spec.input.elements(),
        Shape::Vector { features } => features * size_of::<f32>(),
    }
}

/// Upper bound for the bytes of one sample and its logits in a manifest.
pub fn golden_sample_bytes(spec: &NetworkSpec) -> u64 {
    // Eight spaces, an f32 such as -1.17549435e-38, a comma and a line break.
    const LOGIT: u64 = 8 + 16 + 2;
    // The brackets of a row.
    const ROW: u64 = 32;
    let base64 = (sample_bytes(spec) as u64).div_ceil(3) * 4 + 4;
    base64 + ROW + spec.classes as u64 * LOGIT
}

#[cfg(test)]
mod tests {
    use tensors::DataType;

    use super::*;

    #[test]
    fn nan_is_the_largest_difference() {
        assert_eq!(difference(&[1.0, 2.0], &[1.5, 2.25]), 0.5);
        assert!(difference(&[1.0, 2.0], &[9.0, f32::NAN]).is_nan());
        assert!(difference(&[], &[]).is_nan());
    }

    fn spec(classes: usize) -> NetworkSpec {
        spec_of("[1, 28, 28]", classes)
    }

    fn spec_of(input: &str, classes: usize) -> NetworkSpec {
        toml::from_str(&format!(
            "input = {input}\nclasses = {classes}\npreset = \"mlp\"\nwidths = [2]"
        ))
        .unwrap()
    }

    /// One level deeper, as in a manifest.
    #[derive(serde::Serialize)]
    struct InManifest<'g> {
        golden_batch: &'g GoldenBatch,
    }

    #[test]
    fn a_golden_sample_takes_no_more_than_its_bound() {
        for (input, data_type, samples) in [
            ("[1, 28, 28]", DataType::Uint8, 1),
            ("[1, 28, 28]", DataType::Uint8, 3),
            ("[200]", DataType::Fp32, 3),
        ] {
            let spec = spec_of(input, 50);
            let golden = GoldenBatch {
                data_type,
                samples: vec![7; samples * sample_bytes(&spec)],
                logits: vec![vec![-f32::MIN_POSITIVE; 50]; samples],
                tolerance: 1e-4,
                relative_tolerance: 1e-5,
            };
            let none = GoldenBatch {
                samples: Vec::new(),
                logits: Vec::new(),
                ..golden.clone()
            };
            let bytes = |golden: &GoldenBatch| {
                serde_json::to_vec_pretty(&InManifest {
                    golden_batch: golden,
                })
                .unwrap()
                .len() as u64
            };
            let taken = bytes(&golden) - bytes(&none);
            let bound = samples as u64 * golden_sample_bytes(&spec);
            assert!(taken <= bound, "{taken} {bound}");
            assert!(bound < taken + taken / 2, "{taken} {bound}");
        }
    }

    #[test]
    fn manifests_of_many_classes_get_fewer_golden_samples_or_none() {
        assert_eq!(golden_samples(64, 5000, &spec(10)).unwrap(), 64);
        let fewer = golden_samples(64, 500_000, &spec(21_841)).unwrap();
        assert!((20..64).contains(&fewer), "{fewer}");
        let error = golden_samples(8, MAX_MANIFEST_BYTES, &spec(10)).unwrap_err();
        assert!(error.to_string().contains("data.class_names"), "{error}");
    }
}
