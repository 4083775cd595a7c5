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

#[cfg(test)]
mod tests {
    use super::*;

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
