//! Renders a picture for a teacher, as a trainer does: the same part of it that the models see, at the size
//! of the teacher's input.

use std::{borrow::Cow, sync::Arc};

use bytes::Bytes;
use datasets::{Geometry, Ground, Interpolation, Layout, Picture, Renderer};
use tokio::task;

use super::{Classifier, decoding};
use crate::{config::ImagesConfig, error::InferenceError};

impl Classifier {
    /// u8 pixels of `shape` = [channels, height, width] with 1 or 3 channels.
    ///
    /// # Errors
    /// [`InferenceError`] if the file cannot be used, or too many calls wait for a decoder.
    pub(crate) async fn render(
        &self,
        file: Bytes,
        shape: [usize; 3],
        interpolation: Interpolation,
    ) -> Result<Vec<u8>, InferenceError> {
        let _call = self.begin_call()?;
        let decoder = Arc::clone(&self.decoders).acquire_owned().await;
        let limits = self.limits.clone();
        let work = task::spawn_blocking(move || {
            // Held until the thread ends, even if the caller cancels.
            let _decoder = decoder;
            render(&file, shape, interpolation, &limits)
        });
        // The log has the message of a panic.
        let rendered = work.await.map_err(|_| InferenceError::DecoderFailed)?;
        rendered.map_err(|problem| InferenceError::Image { index: 0, problem })
    }
}

/// Transparent pixels become white: a teacher does not say which ground its trainers use.
fn render(
    file: &[u8],
    shape: [usize; 3],
    interpolation: Interpolation,
    limits: &ImagesConfig,
) -> Result<Vec<u8>, String> {
    let image = decoding::decode(file, limits, Ground::WHITE.0)?;
    let [_, height, width] = image.shape;
    let [channels, rows, columns] = shape;
    let picture = Picture {
        pixels: Cow::Owned(image.pixels),
        layout: Layout::Planar,
        shape: image.shape,
    };
    let geometry = Geometry::centered([height, width], [rows, columns]);
    let mut pixels = vec![0; channels * rows * columns];
    Renderer::default().render(&picture, geometry, shape, interpolation, &mut pixels);
    Ok(pixels)
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use image::{ImageFormat, Rgb, RgbImage};

    use artifacts::manifest::{ImageInput, Preprocessing};

    use super::{super::preprocessing::fit, *};

    #[test]
    fn a_teacher_sees_the_same_part_of_a_picture_as_a_model() {
        let limits = ImagesConfig {
            max_bytes: 1 << 20,
            max_pixels: 1 << 20,
            decoders: 1,
        };
        let shape = [3, 12, 10];
        let preprocessing = Preprocessing::normalization(vec![0.0; 3], vec![1.0; 3]);
        for (width, height) in [(10, 12), (40, 31), (31, 40), (5, 9), (100, 13), (13, 100)] {
            let picture = RgbImage::from_fn(width, height, |x, y| {
                Rgb([x * 7, y * 5, x + y].map(|value| value as u8))
            });
            let mut file = Cursor::new(Vec::new());
            picture.write_to(&mut file, ImageFormat::Png).unwrap();
            let file = file.into_inner();
            let rendered = render(&file, shape, Interpolation::Bilinear, &limits).unwrap();
            let image = decoding::decode(&file, &limits, preprocessing.ground).unwrap();
            let input = ImageInput {
                shape,
                preprocessing: &preprocessing,
            };
            let fitted = fit(image, input, &limits).unwrap();
            let pairs = rendered.iter().zip(&fitted.pixels);
            let largest = pairs.map(|(a, b)| a.abs_diff(*b)).max();
            // Both round, at other steps.
            assert!(largest <= Some(2), "{width}x{height}: {largest:?}");
        }
    }
}
