//! Arbitrary files give an image of the permitted size, or a one-line error.

use std::io::Cursor;

use artifacts::manifest::{ImageInput, Preprocessing, Resize};
use image::{DynamicImage, GrayImage, ImageBuffer, ImageFormat, Rgb, RgbImage, Rgba, RgbaImage};
use proptest::{collection::vec, prelude::*, sample::select};
use test_support::damage::{cases, foreign, in_modest_memory};

use super::*;
use crate::classification::preprocessing;

const LIMITS: ImagesConfig = ImagesConfig {
    max_bytes: 1 << 20,
    max_pixels: 1 << 14,
    decoders: 1,
};

fn encode(image: impl Into<DynamicImage>, format: ImageFormat) -> Vec<u8> {
    let mut file = Cursor::new(Vec::new());
    image.into().write_to(&mut file, format).unwrap();
    file.into_inner()
}

/// Files with every pixel format of PNG and JPEG, and of WebP without loss.
fn valid() -> Vec<Vec<u8>> {
    let gray = GrayImage::from_fn(9, 7, |x, y| image::Luma([(x * 7 + y) as u8]));
    let rgb = RgbImage::from_fn(9, 7, |x, y| Rgb([x as u8, y as u8, (x * y) as u8]));
    let rgba = RgbaImage::from_fn(9, 7, |x, y| Rgba([x as u8, y as u8, 3, 128]));
    let deep = ImageBuffer::from_fn(9, 7, |x, y| Rgb([(x * 999) as u16, (y * 777) as u16, 5]));
    vec![
        encode(gray.clone(), ImageFormat::Png),
        encode(rgb.clone(), ImageFormat::Png),
        encode(rgba.clone(), ImageFormat::Png),
        encode(DynamicImage::ImageRgb16(deep), ImageFormat::Png),
        encode(gray, ImageFormat::Jpeg),
        encode(rgb.clone(), ImageFormat::Jpeg),
        encode(rgb, ImageFormat::WebP),
        encode(rgba, ImageFormat::WebP),
    ]
}

proptest! {
    #![proptest_config(cases(3000))]

    #[test]
    fn a_foreign_file_is_an_image_or_a_line_of_text(
        file in foreign(valid()),
        resize in select(vec![
            Resize::Cover, Resize::ShorterSide(64), Resize::Stretch, Resize::None,
        ]),
        [height, width] in [1..80usize, 1..80], channels in select(vec![1usize, 3]),
        grayscale in any::<bool>(), ground in any::<[u8; 3]>(),
    ) {
        let decoded = in_modest_memory(|| decode(&file, &LIMITS, ground));
        let error = match decoded {
            Ok(image) => {
                let [found, rows, columns] = image.shape;
                prop_assert!(found == 1 || found == 3);
                prop_assert!((1..=LIMITS.max_pixels).contains(&((rows * columns) as u64)));
                prop_assert_eq!(image.pixels.len(), found * rows * columns);
                let preprocessing = Preprocessing {
                    grayscale,
                    resize,
                    ..Preprocessing::normalization(vec![0.0; channels], vec![1.0; channels])
                };
                let input = ImageInput {
                    shape: [channels, height, width],
                    preprocessing: &preprocessing,
                };
                match in_modest_memory(|| preprocessing::fit(image, input, &LIMITS)) {
                    Ok(image) => {
                        prop_assert_eq!(image.shape, input.shape);
                        prop_assert_eq!(image.pixels.len(), channels * height * width);
                        return Ok(());
                    }
                    Err(error) => error,
                }
            }
            Err(error) => error,
        };
        prop_assert!(error.len() < 250 && error.lines().count() == 1, "{}", error);
    }

    #[test]
    fn a_picture_without_loss_gives_its_very_pixels(
        format in select(vec![ImageFormat::Png, ImageFormat::WebP]),
        (width, height, pixels) in (1..20u32, 1..20u32).prop_flat_map(|(width, height)| {
            let count = (3 * width * height) as usize;
            (Just(width), Just(height), vec(any::<u8>(), count))
        }),
    ) {
        let image = RgbImage::from_raw(width, height, pixels.clone()).unwrap();
        let decoded = decode(&encode(image, format), &LIMITS, [0; 3]).unwrap();
        let expected = Image::from_interleaved(&pixels, [3, height as usize, width as usize]);
        prop_assert_eq!(decoded, expected);
    }
}
