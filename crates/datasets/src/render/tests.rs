use proptest::prelude::*;

use super::*;

fn picture(layout: Layout, shape: [usize; 3]) -> Picture<'static> {
    let count = shape.iter().product::<usize>();
    let pixels: Vec<u8> = (0..count).map(|index| (index * 37 % 251) as u8).collect();
    Picture {
        pixels: pixels.into(),
        layout,
        shape,
    }
}

fn to_planar(picture: &Picture<'_>) -> Picture<'static> {
    let [channels, height, width] = picture.shape;
    let plane = |channel| picture.pixels.iter().skip(channel).step_by(channels);
    let pixels: Vec<u8> = (0..channels).flat_map(plane).copied().collect();
    assert_eq!(pixels.len(), channels * height * width);
    Picture {
        pixels: pixels.into(),
        layout: Layout::Planar,
        shape: picture.shape,
    }
}

fn geometry(top: f64, left: f64, height: f64, width: f64) -> Geometry {
    Geometry {
        top,
        left,
        height,
        width,
        flip: false,
    }
}

fn render(picture: &Picture<'_>, geometry: Geometry, target: [usize; 3]) -> Vec<u8> {
    let mut out = vec![9; target.iter().product()];
    Renderer::default().render(picture, geometry, target, Interpolation::Bilinear, &mut out);
    out
}

/// Crop and flip by definition, pixel by pixel.
fn crop(picture: &Picture<'_>, top: isize, left: isize, size: [usize; 2], flip: bool) -> Vec<u8> {
    let [channels, rows, columns] = picture.shape.map(|side| side as isize);
    let [height, width] = size.map(|side| side as isize);
    let mut out = Vec::new();
    for channel in 0..channels {
        for row in top..top + height {
            for column in 0..width {
                let column = left + if flip { width - 1 - column } else { column };
                let inside = (0..rows).contains(&row) && (0..columns).contains(&column);
                let at = (channel * rows + row) * columns + column;
                out.push(if inside {
                    picture.pixels[at as usize]
                } else {
                    0
                });
            }
        }
    }
    out
}

proptest! {
    /// A box of the target's size at whole pixels is cropped, in both layouts, also beyond the image.
    #[test]
    fn whole_pixels_are_copied(
        channels in prop::sample::select(vec![1_usize, 3]),
        size in prop::array::uniform2(1_usize..9),
        target in prop::array::uniform2(1_usize..9),
        top in -12_isize..12,
        left in -12_isize..12,
        flip: bool,
    ) {
        let interleaved = picture(Layout::Interleaved, [channels, size[0], size[1]]);
        let planar = to_planar(&interleaved);
        let [height, width] = target;
        let geometry = Geometry {
            flip,
            ..geometry(top as f64, left as f64, height as f64, width as f64)
        };
        let expected = crop(&planar, top, left, target, flip);
        prop_assert_eq!(&render(&planar, geometry, [channels, height, width]), &expected);
        prop_assert_eq!(&render(&interleaved, geometry, [channels, height, width]), &expected);
    }

    /// No box, however odd, makes the renderer panic, and both layouts agree.
    #[test]
    fn any_box_is_rendered(
        channels in prop::sample::select(vec![1_usize, 3]),
        target_channels in prop::sample::select(vec![1_usize, 3]),
        size in prop::array::uniform2(1_usize..20),
        target in prop::array::uniform2(1_usize..20),
        first in prop::array::uniform2(-25.0_f64..25.0),
        sides in prop::array::uniform2(0.2_f64..40.0),
    ) {
        let interleaved = picture(Layout::Interleaved, [channels, size[0], size[1]]);
        let planar = to_planar(&interleaved);
        let geometry = geometry(first[0], first[1], sides[0], sides[1]);
        let target = [target_channels, target[0], target[1]];
        prop_assert_eq!(render(&planar, geometry, target), render(&interleaved, geometry, target));
    }
}

#[test]
fn centered_boxes_show_what_the_image_functions_show() {
    // `Image::resize` has Pillow's bits; fast_image_resize may round a value to its neighbor.
    for (size, target) in [
        ([40, 60], [16, 16]),
        ([33, 21], [28, 28]),
        ([64, 64], [32, 48]),
    ] {
        let photo = picture(Layout::Interleaved, [3, size[0], size[1]]);
        let [rows, columns] = crate::view::covering_size(size, target);
        let expected = crate::Image::from_interleaved(&photo.pixels, photo.shape)
            .resize(rows, columns)
            .crop_center(target[0], target[1]);
        let geometry = Geometry::centered(size, target);
        let found = render(&photo, geometry, [3, target[0], target[1]]);
        let largest = expected
            .pixels
            .iter()
            .zip(&found)
            .map(|(a, b)| a.abs_diff(*b))
            .max();
        assert!(largest <= Some(1), "{size:?} to {target:?}: {largest:?}");
    }
}

/// Of Pillow, from scripts/golden/images.py.
const BICUBIC_5X7: [u8; 35] = [
    104, 128, 123, 113, 132, 126, 117, 110, 130, 122, 119, 130, 126, 123, 112, 132, 124, 118, 110,
    129, 125, 114, 135, 126, 120, 113, 131, 126, 119, 118, 125, 125, 111, 130, 132,
];
const BICUBIC_15X13: [u8; 195] = [
    60, 84, 108, 137, 169, 100, 73, 104, 131, 162, 145, 69, 99, 113, 137, 161, 93, 111, 117, 131,
    162, 122, 101, 123, 126, 152, 95, 119, 143, 110, 132, 111, 112, 142, 126, 124, 131, 108, 134,
    78, 102, 126, 126, 153, 107, 93, 123, 130, 145, 139, 89, 117, 126, 150, 173, 86, 100, 123, 145,
    177, 122, 90, 120, 141, 165, 68, 92, 116, 136, 167, 105, 81, 114, 136, 160, 146, 77, 107, 115,
    139, 163, 96, 114, 120, 139, 124, 78, 110, 126, 129, 154, 98, 122, 146, 113, 135, 114, 118,
    120, 100, 130, 134, 111, 137, 81, 105, 129, 129, 156, 110, 97, 116, 120, 150, 142, 92, 120,
    129, 153, 176, 89, 103, 126, 154, 132, 68, 99, 123, 144, 168, 71, 95, 119, 139, 170, 108, 84,
    114, 135, 163, 149, 80, 110, 118, 142, 166, 99, 117, 123, 141, 129, 83, 113, 129, 132, 157,
    101, 125, 155, 116, 138, 117, 121, 123, 103, 133, 137, 114, 140, 84, 109, 106, 128, 160, 113,
    100, 119, 124, 153, 146, 95, 123, 137, 166, 91, 73, 102, 130, 162, 136, 66, 97, 124, 152, 176,
];

#[test]
fn bicubic_images_are_those_of_pillow() {
    // Without extreme values: both clip what exceeds them between two passes, in another order.
    let mut soft = picture(Layout::Planar, [1, 12, 17]);
    let values = soft.pixels.iter().map(|value| 60 + value / 2);
    soft.pixels = values.collect();
    let whole = geometry(0.0, 0.0, 12.0, 17.0);
    for (target, expected) in [([1, 5, 7], &BICUBIC_5X7[..]), ([1, 15, 13], &BICUBIC_15X13)] {
        let mut found = vec![0; expected.len()];
        Renderer::default().render(&soft, whole, target, Interpolation::Bicubic, &mut found);
        let pairs = found.iter().zip(expected);
        let largest = pairs.map(|(here, there)| here.abs_diff(*there)).max();
        // fast_image_resize may round a value to its neighbor.
        assert!(largest <= Some(1), "{target:?}: {largest:?}");
        assert_ne!(found, render(&soft, whole, target));
    }
}

#[test]
fn color_becomes_gray_and_gray_becomes_color() {
    let photo = picture(Layout::Interleaved, [3, 4, 5]);
    let whole = geometry(0.0, 0.0, 4.0, 5.0);
    let gray = crate::Image::from_interleaved(&photo.pixels, photo.shape).to_gray();
    assert_eq!(render(&photo, whole, [1, 4, 5]), gray.pixels);
    let gray = picture(Layout::Planar, [1, 4, 5]);
    assert_eq!(render(&gray, whole, [3, 4, 5]), gray.pixels.repeat(3));
}
