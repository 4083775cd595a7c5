//! Why teachers are never asked for a few images only, where bits of batches of unlike sizes meet.

use teacher_pool::FEWEST_IMAGES;

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
