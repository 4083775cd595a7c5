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

/// Of Pillow 12, from scripts/golden/images.py.
const BICUBIC_5X7: [u8; 35] = [
    89, 136, 127, 107, 144, 133, 114, 101, 141, 124, 119, 141, 131, 126, 105, 145, 129, 116, 101,
    138, 130, 108, 152, 132, 119, 106, 142, 133, 119, 117, 130, 131, 103, 141, 145,
];
const BICUBIC_15X13: [u8; 195] = [
    1, 49, 97, 156, 219, 80, 28, 88, 142, 206, 170, 19, 79, 106, 154, 201, 67, 102, 114, 143, 205,
    123, 84, 126, 134, 184, 71, 119, 167, 100, 145, 104, 105, 166, 132, 128, 143, 96, 149, 37, 85,
    132, 131, 186, 94, 67, 128, 139, 171, 160, 58, 115, 133, 181, 228, 51, 80, 125, 171, 235, 123,
    60, 120, 162, 211, 15, 63, 111, 154, 215, 89, 43, 108, 151, 201, 172, 35, 93, 111, 159, 207,
    74, 109, 120, 157, 129, 36, 101, 132, 139, 189, 77, 125, 173, 106, 151, 110, 116, 122, 80, 141,
    149, 102, 155, 43, 91, 138, 137, 192, 100, 75, 112, 121, 180, 166, 64, 121, 139, 187, 234, 57,
    86, 131, 188, 143, 17, 79, 126, 168, 217, 21, 69, 117, 160, 221, 95, 50, 107, 149, 208, 178,
    41, 99, 117, 165, 213, 80, 115, 126, 163, 138, 45, 107, 138, 145, 195, 83, 130, 190, 113, 156,
    116, 122, 128, 86, 147, 155, 108, 161, 48, 99, 93, 136, 200, 106, 80, 118, 128, 187, 172, 69,
    126, 153, 213, 62, 26, 85, 140, 204, 152, 13, 75, 128, 184, 231,
];

#[test]
fn bicubic_images_are_those_of_pillow() {
    let ramp = picture(Layout::Planar, [1, 12, 17]);
    let whole = geometry(0.0, 0.0, 12.0, 17.0);
    for (target, expected) in [([1, 5, 7], &BICUBIC_5X7[..]), ([1, 15, 13], &BICUBIC_15X13)] {
        let mut found = vec![0; expected.len()];
        Renderer::default().render(&ramp, whole, target, Interpolation::Bicubic, &mut found);
        let pairs = found.iter().zip(expected);
        let largest = pairs.map(|(here, there)| here.abs_diff(*there)).max();
        // fast_image_resize may round a value to its neighbor.
        assert!(largest <= Some(1), "{target:?}: {largest:?}");
        assert_ne!(found, render(&ramp, whole, target));
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
