//! Images of any size become images of any other.

use proptest::{collection::vec, prelude::*};

use super::*;
use test_support::damage::cases;

fn image() -> impl Strategy<Value = Image> {
    (prop_oneof![Just(1usize), Just(3)], 1..40usize, 1..40usize).prop_flat_map(|shape| {
        let (channels, height, width) = shape;
        let pixels = vec(any::<u8>(), channels * height * width);
        pixels.prop_map(move |interleaved| {
            Image::from_interleaved(&interleaved, [channels, height, width])
        })
    })
}

proptest! {
    #![proptest_config(cases(300))]

    #[test]
    fn scaling_and_cutting_keep_the_range_and_make_the_size(
        image in image(), height in 1..60usize, width in 1..60usize,
    ) {
        let [channels, from_height, from_width] = image.shape;
        let (least, most) = (*image.pixels.iter().min().unwrap(), *image.pixels.iter().max().unwrap());
        let scaled = image.clone().resize(height, width);
        prop_assert_eq!(scaled.shape, [channels, height, width]);
        prop_assert_eq!(scaled.pixels.len(), channels * height * width);
        // Each of the two passes rounds once.
        let range = least.saturating_sub(1)..=most.saturating_add(1);
        prop_assert!(scaled.pixels.iter().all(|pixel| range.contains(pixel)));

        let (inner_height, inner_width) = (height.min(from_height), width.min(from_width));
        let middle = image.crop_center(inner_height, inner_width);
        prop_assert_eq!(middle.shape, [channels, inner_height, inner_width]);
        prop_assert_eq!(middle.pixels.len(), channels * inner_height * inner_width);
    }

    #[test]
    fn planes_and_colours_hold_the_pixels_of_the_file(image in image()) {
        let [channels, height, width] = image.shape;
        let size = height * width;
        let interleaved: Vec<u8> = (0..size)
            .flat_map(|pixel| image.pixels.iter().skip(pixel).step_by(size).copied())
            .collect();
        prop_assert_eq!(&Image::from_interleaved(&interleaved, image.shape), &image);
        let gray = image.clone().to_gray();
        prop_assert_eq!((gray.shape, gray.pixels.len()), ([1, height, width], size));
        prop_assert_eq!(gray.clone().to_rgb().to_gray(), gray);
        prop_assert!(channels == 3 || image.clone().to_gray() == image);
    }
}
