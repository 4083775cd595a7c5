//! Pads small batches of fixed views: libtorch computes very small batches with other kernels, whose
//! bits differ, and a recording batches the images in another way than a run.

use teacher_pool::MIN_REQUEST_IMAGES;

/// Repeats the first image until there are [`MIN_REQUEST_IMAGES`]. Returns the pixels and the number of images.
pub(super) fn pad(mut pixels: Vec<u8>, images: usize) -> (Vec<u8>, usize) {
    let padded = images.max(MIN_REQUEST_IMAGES);
    let image = pixels.len() / images;
    pixels.reserve_exact((padded - images) * image);
    for _ in images..padded {
        pixels.extend_from_within(..image);
    }
    (pixels, padded)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_batches_repeat_their_first_image() {
        let (pixels, images) = pad(vec![1, 2, 3, 4], 2);
        assert_eq!(
            (images, pixels.len()),
            (MIN_REQUEST_IMAGES, 2 * MIN_REQUEST_IMAGES)
        );
        assert_eq!(pixels[..6], [1, 2, 3, 4, 1, 2]);
        let large = vec![7; MIN_REQUEST_IMAGES + 1];
        assert_eq!(
            pad(large.clone(), large.len()),
            (large, MIN_REQUEST_IMAGES + 1)
        );
    }
}
