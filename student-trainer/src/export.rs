//! ONNX export and its check against libtorch.

use artifacts::manifest::{GoldenBatch, MAX_MANIFEST_BYTES, allowed_difference};
use datasets::{Dataset, Normalization};
use networks::{NetworkSpec, Weights, WeightsError, onnx};
use onnx_runtime::{Session, SessionError, SessionOptions};

use crate::{
    config::ExportConfig,
    engine::{self, TorchError, TorchNetwork},
};

/// What is exported, and what it is compared on.
#[derive(Clone, Copy)]
pub struct ExportSource<'r> {
    /// The architecture.
    pub spec: &'r NetworkSpec,
    /// Its weights.
    pub weights: &'r Weights,
    /// The same in libtorch.
    pub network: &'r TorchNetwork,
    /// Real images.
    pub images: &'r Dataset,
    /// How pixels become the network's input.
    pub normalization: &'r Normalization,
}

/// An ONNX model that gives what libtorch gives.
#[derive(Debug)]
pub struct ExportedModel {
    /// The file's bytes: the same for the same weights.
    pub onnx: Vec<u8>,
    /// Images with libtorch's logits.
    pub golden_batch: GoldenBatch,
    /// Images compared.
    pub compared: usize,
    /// Of any logit of any of them.
    pub largest_difference: f32,
}

/// Why there is no ONNX model.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The writer refuses.
    #[error("cannot export to ONNX: {0}")]
    Write(#[from] WeightsError),
    /// ONNX Runtime refuses what was written.
    #[error("the exported ONNX model cannot be checked: {0}")]
    Session(#[from] SessionError),
    /// libtorch failed.
    #[error("the exported ONNX model cannot be checked: {0}")]
    Torch(#[from] TorchError),
    /// The two engines give other logits.
    #[error(
        "the exported ONNX model gives other logits than libtorch: they differ by up to \
         {difference:.3e} on image {image}, where export.tolerance and export.relative_tolerance allow \
         {allowed:.3e}"
    )]
    Disagrees {
        /// Largest absolute difference of a logit of the image; NaN where one is no number.
        difference: f32,
        /// Position of the image in the data set.
        image: usize,
        /// What is allowed for its logits.
        allowed: f32,
    },
    /// No manifest of this network is small enough.
    #[error(
        "the exported model's manifest would take {needed} bytes with one golden sample, and inference services \
         take {MAX_MANIFEST_BYTES}; shorten data.class_names, or set export.onnx = false"
    )]
    ManifestTooLarge {
        /// Bytes of the smallest manifest.
        needed: u64,
    },
}

/// Writes the ONNX model, batch-norm folded, and compares its logits on the first images of the data
/// with libtorch's, both in f32. The first `golden_samples` of them make the golden batch.
///
/// # Errors
/// See [`ExportError`].
pub fn export(
    source: ExportSource<'_>,
    config: &ExportConfig,
    golden_samples: usize,
) -> Result<ExportedModel, ExportError> {
    let ExportSource {
        images,
        normalization,
        ..
    } = source;
    let onnx = onnx::export(source.spec, source.weights)?;

    let compared = config.compare_samples.min(images.len());
    let pixels = &images.pixels()[..compared * images.image_size()];
    let expected = engine::logits(source.network, pixels, images.shape(), normalization)?;
    let [_, height, width] = images.shape();
    let mut input = Vec::new();
    normalization.apply(pixels, height * width, &mut input);
    let found = Session::load(&onnx, SessionOptions::default())?.run(&input, compared)?;

    let classes = images.classes();
    let mut largest_difference = 0.0f32;
    let rows = expected
        .chunks_exact(classes)
        .zip(found.chunks_exact(classes));
    for (image, (expected, found)) in rows.enumerate() {
        let difference = difference(expected, found);
        let allowed = allowed_difference(config.tolerance, config.relative_tolerance, expected);
        let agrees = difference <= allowed; // false for NaN
        if !agrees || !allowed.is_finite() {
            return Err(ExportError::Disagrees {
                difference,
                image,
                allowed,
            });
        }
        largest_difference = largest_difference.max(difference);
    }
    let golden = golden_samples.min(compared);
    Ok(ExportedModel {
        onnx,
        golden_batch: GoldenBatch {
            images: pixels[..golden * images.image_size()].to_vec(),
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

/// The largest difference of a logit of one image; NaN where one is no number.
fn difference(expected: &[f32], found: &[f32]) -> f32 {
    let differences = expected.iter().zip(found).map(|(a, b)| (a - b).abs());
    differences
        .max_by(|a, b| a.total_cmp(b))
        .unwrap_or(f32::NAN)
}

/// Images for which a manifest is small enough, `wanted` at most, where it takes `bytes` without any of them.
///
/// # Errors
/// [`ExportError::ManifestTooLarge`].
pub fn golden_samples(
    wanted: usize,
    bytes: usize,
    spec: &NetworkSpec,
) -> Result<usize, ExportError> {
    let image = golden_sample_bytes(spec);
    let room = (MAX_MANIFEST_BYTES as u64).saturating_sub(bytes as u64);
    match usize::try_from(room / image).unwrap_or(usize::MAX) {
        0 => Err(ExportError::ManifestTooLarge {
            needed: bytes as u64 + image,
        }),
        fitting => Ok(wanted.min(fitting)),
    }
}

/// Bytes of one image and its logits in a manifest, at most.
pub fn golden_sample_bytes(spec: &NetworkSpec) -> u64 {
    // Eight spaces, an f32 such as -1.17549435e-38, a comma and a line break.
    const LOGIT: u64 = 8 + 16 + 2;
    // The brackets of a row.
    const ROW: u64 = 32;
    let pixels: u64 = spec.input.iter().map(|size| *size as u64).product();
    let base64 = pixels.div_ceil(3) * 4 + 4;
    base64 + ROW + spec.classes as u64 * LOGIT
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nan_is_the_largest_difference() {
        assert_eq!(difference(&[1.0, 2.0], &[1.5, 2.25]), 0.5);
        assert!(difference(&[1.0, 2.0], &[9.0, f32::NAN]).is_nan());
        assert!(difference(&[], &[]).is_nan());
    }

    fn spec(classes: usize) -> NetworkSpec {
        toml::from_str(&format!(
            "input = [1, 28, 28]\nclasses = {classes}\npreset = \"mlp\"\nwidths = [2]"
        ))
        .unwrap()
    }

    /// One level deeper, as in a manifest.
    #[derive(serde::Serialize)]
    struct InManifest<'g> {
        golden_batch: &'g GoldenBatch,
    }

    #[test]
    fn a_golden_sample_takes_no_more_than_is_reckoned() {
        for images in [1, 3] {
            let golden = GoldenBatch {
                images: vec![7; images * 28 * 28],
                logits: vec![vec![-f32::MIN_POSITIVE; 50]; images],
                tolerance: 1e-4,
                relative_tolerance: 1e-5,
            };
            let none = GoldenBatch {
                images: Vec::new(),
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
            let reckoned = images as u64 * golden_sample_bytes(&spec(50));
            assert!(taken <= reckoned, "{taken} {reckoned}");
            assert!(reckoned < taken + taken / 2, "{taken} {reckoned}");
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
