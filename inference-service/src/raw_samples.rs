//! Samples as a data set has them, from the input of a request.

use artifacts::manifest::{ArtifactManifest, ImageInput};
use datasets::Values;

use crate::batcher::InputValues;

/// The samples of `input` before the model's normalization: u8 pixels for a model of images, otherwise the rows as they
/// are. Pixels are rounded, so that an input which is not a normalized picture becomes the nearest one.
pub(crate) fn raw_samples(input: &InputValues, manifest: &ArtifactManifest) -> Values {
    let Some(ImageInput {
        shape: [_, height, width],
        preprocessing,
    }) = manifest.images()
    else {
        return Values::Fp32(input.iter().collect());
    };
    let plane = (height * width).max(1);
    let channels = preprocessing.mean.len().max(1);
    let pixel = |(position, value): (usize, f32)| {
        let channel = position / plane % channels;
        let (mean, std) = (preprocessing.mean[channel], preprocessing.std[channel]);
        // The conversion saturates.
        ((value * std + mean) * 255.0).round() as u8
    };
    Values::Uint8(input.iter().enumerate().map(pixel).collect())
}

#[cfg(test)]
mod tests {
    use datasets::Normalization;

    use super::*;
    use crate::test_model;

    #[test]
    fn every_pixel_survives_the_normalization() {
        let (_, manifest) = test_model::model(&[[0.0; 2]; 3]);
        let mut manifest = ArtifactManifest::clone(&manifest);
        let preprocessing = manifest.preprocessing.as_mut().unwrap();
        (preprocessing.mean, preprocessing.std) = (vec![0.2860], vec![0.3530]);
        let normalization = Normalization {
            mean: preprocessing.mean.clone(),
            std: preprocessing.std.clone(),
        };
        let pixels: Vec<u8> = (0..=255).collect();
        let mut input = Vec::new();
        normalization.apply(&pixels, 1, &mut input);
        let bytes: Vec<u8> = input.iter().flat_map(|value| value.to_le_bytes()).collect();
        for input in [
            InputValues::Typed(input.clone()),
            InputValues::Raw(bytes.into()),
        ] {
            assert_eq!(
                raw_samples(&input, &manifest),
                Values::Uint8(pixels.clone())
            );
        }
        let outside = InputValues::Typed(vec![-100.0, 100.0]);
        assert_eq!(
            raw_samples(&outside, &manifest),
            Values::Uint8(vec![0, 255])
        );
    }
}
