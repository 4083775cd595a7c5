//! Why teachers are never asked for a few images only, where bits of batches of unlike sizes meet.

/// Fewest images that a teacher is asked for where views are fixed.
///
/// libtorch computes small batches in other ways: with 2.11 on AVX-512, convolutions and linear layers in
/// f32 give an image the same bits in any batch of 16 or more, whatever the other images, and other
/// last bits in batches of 1, 2 and 5. A recording and a run cut the images into batches
/// differently, so both fill small ones up.
pub(super) const FEWEST_IMAGES: usize = 32;

/// Repeats the first image until there are [`FEWEST_IMAGES`]: the pixels, and how many images they are.
pub(super) fn fill_up(mut pixels: Vec<u8>, images: usize) -> (Vec<u8>, usize) {
    let asked = images.max(FEWEST_IMAGES);
    let image = pixels.len() / images;
    pixels.reserve_exact((asked - images) * image);
    for _ in images..asked {
        pixels.extend_from_within(..image);
    }
    (pixels, asked)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_batches_repeat_their_first_image() {
        let (pixels, asked) = fill_up(vec![1, 2, 3, 4], 2);
        assert_eq!((asked, pixels.len()), (FEWEST_IMAGES, 2 * FEWEST_IMAGES));
        assert_eq!(pixels[..6], [1, 2, 3, 4, 1, 2]);
        let large = vec![7; FEWEST_IMAGES + 1];
        assert_eq!(
            fill_up(large.clone(), large.len()),
            (large, FEWEST_IMAGES + 1)
        );
    }
}
