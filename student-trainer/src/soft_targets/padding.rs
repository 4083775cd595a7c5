//! Pads small batches of fixed views: libtorch computes very small batches with other kernels, whose
//! bits differ, and a recording batches the images in another way than a run.

use bytes::Bytes;
use teacher_pool::MIN_REQUEST_IMAGES;

/// Repeats the first image until there are [`MIN_REQUEST_IMAGES`]. Returns the pixels and the number of images.
pub(super) fn pad(pixels: Bytes, images: usize) -> (Bytes, usize) {
    let padded = images.max(MIN_REQUEST_IMAGES);
    if padded == images {
        return (pixels, images);
    }
    let image = &pixels[..pixels.len() / images];
    let mut all = Vec::with_capacity(padded * image.len());
    all.extend_from_slice(&pixels);
    for _ in images..padded {
        all.extend_from_slice(image);
    }
    (all.into(), padded)
}

/// The positions of the `images` images that [`pad`] makes of `samples`.
pub(super) fn positions(samples: &[u32], images: usize) -> impl Iterator<Item = u32> {
    let first = samples.iter().take(1).cycle();
    samples.iter().chain(first).take(images).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_are_those_of_the_padded_images() {
        for samples in [vec![9_u8, 4], vec![7; MIN_REQUEST_IMAGES + 1]] {
            // One pixel an image: its position.
            let (pixels, images) = pad(Bytes::from(samples.clone()), samples.len());
            let samples: Vec<u32> = samples.into_iter().map(u32::from).collect();
            let expected: Vec<u32> = pixels.into_iter().map(u32::from).collect();
            assert_eq!(positions(&samples, images).collect::<Vec<_>>(), expected);
        }
    }

    #[test]
    fn small_batches_repeat_their_first_image() {
        let (pixels, images) = pad(Bytes::from(vec![1, 2, 3, 4]), 2);
        assert_eq!(
            (images, pixels.len()),
            (MIN_REQUEST_IMAGES, 2 * MIN_REQUEST_IMAGES)
        );
        assert_eq!(pixels[..6], [1, 2, 3, 4, 1, 2]);
        let large = Bytes::from(vec![7; MIN_REQUEST_IMAGES + 1]);
        assert_eq!(
            pad(large.clone(), large.len()),
            (large, MIN_REQUEST_IMAGES + 1)
        );
    }
}
