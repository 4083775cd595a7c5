use std::collections::BTreeMap;

use serde::Deserialize;

use super::*;
use crate::region::Region;

/// Made by `scripts/golden/augmentation.py`; pixels are planes as hex digits.
#[derive(Deserialize)]
struct Golden {
    size: [usize; 2],
    pictures: BTreeMap<usize, String>,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    channels: usize,
    name: String,
    arguments: Vec<f64>,
    pixels: String,
}

impl Case {
    fn operation(&self, size: [usize; 2]) -> Operation {
        let first = self.arguments.first().copied().unwrap_or_default();
        match (self.name.as_str(), &self.arguments[..]) {
            ("affine", [degrees, right, down]) => {
                Operation::Affine(AffineMap::rotation(*degrees, [*right, *down], size))
            }
            ("shear", [x, y]) => Operation::Affine(AffineMap::shear(*x, *y, size)),
            ("brightness", _) => Operation::Brightness(first as f32),
            ("contrast", _) => Operation::Contrast(first as f32),
            ("saturation", _) => Operation::Saturation(first as f32),
            ("hue", _) => Operation::Hue(first),
            ("sharpness", _) => Operation::Sharpness(first as f32),
            ("posterize", _) => Operation::Posterize(first as u32),
            ("solarize", _) => Operation::Solarize(first),
            ("auto_contrast", _) => Operation::AutoContrast,
            ("equalize", _) => Operation::Equalize,
            (name, arguments) => panic!("{name} {arguments:?}"),
        }
    }
}

#[test]
fn the_bits_are_those_of_torchvision_on_pictures_of_pillow() {
    let golden: Golden = serde_json::from_str(include_str!("golden.json")).unwrap();
    let [height, width] = golden.size;
    assert!(golden.cases.len() > 50);
    for case in &golden.cases {
        let mut pixels = hex::decode(&golden.pictures[&case.channels]).unwrap();
        let shape = [case.channels, height, width];
        let operation = case.operation(golden.size);
        operation.apply(&mut pixels, shape, &mut Vec::new());
        let expected = hex::decode(&case.pixels).unwrap();
        let differing = pixels.iter().zip(&expected).filter(|(a, b)| a != b);
        assert_eq!(differing.count(), 0, "{operation:?} of {shape:?}");
    }
}

#[test]
fn a_flat_picture_keeps_its_tones_and_the_smallest_picture_is_changed() {
    for operation in [
        Operation::AutoContrast,
        Operation::Equalize,
        Operation::Contrast(3.0),
        Operation::Sharpness(1.9),
        Operation::Hue(0.3),
        Operation::Saturation(2.0),
        Operation::Posterize(8),
    ] {
        for shape in [[1, 1, 1], [3, 1, 1], [3, 2, 5]] {
            let mut pixels = vec![77; shape.iter().product()];
            operation.apply(&mut pixels, shape, &mut Vec::new());
            assert!(
                pixels.iter().all(|value| *value == 77),
                "{operation:?} {shape:?}"
            );
        }
    }
}

/// A picture of 12×16 with a white box at the given rows and columns.
fn boxed(rows: [usize; 2], columns: [usize; 2], scale: usize) -> Vec<u8> {
    let [height, width] = [12 * scale, 16 * scale];
    let inside = |at: usize, range: [usize; 2]| (range[0] * scale..range[1] * scale).contains(&at);
    let pixel = |at: usize| inside(at / width, rows) && inside(at % width, columns);
    (0..height * width)
        .map(|at| if pixel(at) { 255 } else { 0 })
        .collect()
}

#[test]
fn an_affine_map_moves_the_same_part_at_every_size() {
    let map = AffineMap::rotation(90.0, [1.0, -2.0], [12, 16]);
    let mut small = boxed([2, 5], [6, 11], 1);
    Operation::Affine(map).apply(&mut small, [1, 12, 16], &mut Vec::new());
    let mut large = boxed([2, 5], [6, 11], 3);
    Operation::Affine(map).apply(&mut large, [1, 36, 48], &mut Vec::new());
    assert!(small.iter().filter(|value| **value > 250).count() > 8);
    // The middle of each block of 3×3 pixels shows what the small picture shows, but for rounding.
    for (at, value) in small.iter().enumerate() {
        let (row, column) = (at / 16 * 3 + 1, at % 16 * 3 + 1);
        let difference = large[row * 48 + column].abs_diff(*value);
        assert!(difference <= 1, "{at}: {difference}");
    }
}

#[test]
fn an_erased_box_is_black_or_the_same_noise_at_every_size() {
    let region = Region::of_pixels(1..3, 2..5, [4, 6]);
    let erased = |fill: Fill, shape: [usize; 3]| {
        let mut pixels = vec![200; shape.iter().product()];
        Operation::Erase(Erasing { region, fill }).apply(&mut pixels, shape, &mut Vec::new());
        pixels
    };
    let rows = |pixels: &[u8], width: usize| -> Vec<Vec<u8>> {
        pixels.chunks(width).map(<[u8]>::to_vec).collect()
    };
    let black = erased(Fill::Black, [1, 4, 6]);
    let line = [200, 200, 0, 0, 0, 200];
    assert_eq!(rows(&black, 6), [[200; 6], line, line, [200; 6]]);

    let noise = || Fill::Noise {
        values: (1..=18).collect(),
        size: [2, 3],
    };
    let small = rows(&erased(noise(), [3, 4, 6]), 6);
    assert_eq!(small[1], [200, 200, 1, 2, 3, 200]);
    assert_eq!(small[4 + 2], [200, 200, 10, 11, 12, 200]);
    let large = rows(&erased(noise(), [3, 8, 12]), 12);
    for (row, line) in large.iter().enumerate() {
        for (column, value) in line.iter().enumerate() {
            assert_eq!(*value, small[row / 2][column / 2]);
        }
    }
    assert_eq!(erased(noise(), [1, 1, 1]), [1]);
}
