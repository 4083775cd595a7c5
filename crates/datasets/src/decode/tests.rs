use std::{fs, path::Path};

use test_support::damage::{cases, foreign, in_modest_memory};

use proptest::prelude::*;

use super::*;

/// Pictures and pixels that scripts/golden/pictures.py wrote with Pillow 12.
const FIXTURES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/src/decode/fixtures");

const OPTIONS: Decoding = Decoding {
    max_pixels: 1 << 14,
    alpha: Alpha::Over([250, 120, 10]),
    turning: Turning::Upright,
};

fn fixture(name: &str) -> Vec<u8> {
    fs::read(Path::new(FIXTURES).join(name)).unwrap()
}

fn decoded(file: &[u8], options: &Decoding) -> Result<Picture<'static>, String> {
    let format = PictureFormat::of(file).ok_or("unknown")?;
    decode(file, format, options).map_err(|problem| problem.to_string())
}

/// Shape and pixels that Pillow reads.
fn expected(name: &str) -> ([usize; 3], Vec<u8>) {
    let mut file = fixture(&format!("{name}.pixels"));
    let pixels = file.split_off(12);
    let side = |at: usize| u32::from_le_bytes(file[at..at + 4].try_into().unwrap()) as usize;
    ([side(0), side(4), side(8)], pixels)
}

/// The largest difference between a value here and in Pillow.
fn difference(name: &str) -> u8 {
    let picture = decoded(&fixture(name), &OPTIONS).unwrap();
    let (shape, pixels) = expected(name);
    assert_eq!(picture.shape, shape, "{name}");
    assert_eq!(picture.pixels.len(), pixels.len(), "{name}");
    let pairs = picture.pixels.iter().zip(&pixels);
    pairs
        .map(|(here, there)| here.abs_diff(*there))
        .max()
        .unwrap()
}

#[test]
fn pictures_without_loss_have_the_pixels_of_pillow() {
    for name in [
        "exif-6.png",
        "exif-6.webp",
        "alpha.png",
        "alpha.webp",
        "gray-alpha.png",
        "palette.png",
        "palette-transparent.png",
        "one-bit.png",
        "gray-16.png",
        "color-16.png",
        "lossless.webp",
        "animated.webp",
    ] {
        assert_eq!(difference(name), 0, "{name}");
    }
}

#[test]
fn jpeg_and_lossy_webp_pictures_are_those_of_pillow_but_for_rounding() {
    let orientations = (1..=8).map(|orientation| format!("exif-{orientation}.jpg"));
    let others = [
        "gray.jpg",
        "color-444.jpg",
        "progressive.jpg",
        "cmyk.jpg",
        "ycck.jpg",
    ];
    for name in orientations.chain(others.map(str::to_owned)) {
        let found = difference(&name);
        assert!(found <= 3, "{name}: {found}");
    }
    // These also differ in how they enlarge the colors, which are stored at half the size.
    for name in ["color-420.jpg", "lossy.webp"] {
        let found = difference(name);
        assert!(found <= 6, "{name}: {found}");
    }
}

#[test]
fn options_leave_pictures_as_stored() {
    let as_stored = Decoding {
        turning: Turning::AsStored,
        ..OPTIONS
    };
    let [.., width] = decoded(&fixture("exif-6.png"), &as_stored).unwrap().shape;
    assert_eq!(width, 18);
    let without_alpha = Decoding {
        alpha: Alpha::Ignored,
        ..OPTIONS
    };
    let picture = decoded(&fixture("alpha.webp"), &without_alpha).unwrap();
    let (_, opaque) = expected("lossless.webp");
    assert_eq!(picture.pixels, opaque);
    // Over a gray ground, gray pictures stay gray.
    let over_gray = Decoding {
        alpha: Alpha::Over([9; 3]),
        ..OPTIONS
    };
    assert_eq!(
        decoded(&fixture("gray-alpha.png"), &over_gray)
            .unwrap()
            .channels(),
        1
    );
    assert_eq!(
        decoded(&fixture("alpha.png"), &over_gray)
            .unwrap()
            .channels(),
        3
    );
}

#[test]
fn a_picture_of_too_many_pixels_is_refused_before_it_is_decoded() {
    let few = Decoding {
        max_pixels: 11 * 18 - 1,
        ..OPTIONS
    };
    for name in ["color-444.jpg", "palette.png", "lossy.webp"] {
        assert_eq!(
            decoded(&fixture(name), &few).unwrap_err(),
            "18x11 pixels; 1 to 197 are allowed"
        );
    }
    // The size in the header of a PNG, with its checksum.
    let mut huge = fixture("palette.png");
    huge[16..24].copy_from_slice(&[0, 0, 0xc3, 0x50, 0, 0, 0xc3, 0x50]);
    let mut checksum = flate2::Crc::new();
    checksum.update(&huge[12..29]);
    huge[29..33].copy_from_slice(&checksum.sum().to_be_bytes());
    let problem = in_modest_memory(|| decoded(&huge, &OPTIONS)).unwrap_err();
    assert_eq!(problem, "50000x50000 pixels; 1 to 16384 are allowed");
}

/// A part of a WebP file.
fn part(name: &[u8; 4], content: &[u8]) -> Vec<u8> {
    let length = (content.len() as u32).to_le_bytes();
    let padding = &[0][..content.len() % 2];
    [name, &length[..], content, padding].concat()
}

/// A WebP file of 18 × 11 pixels with these parts after its extended header.
fn extended_webp(flags: u8, parts: &[Vec<u8>]) -> Vec<u8> {
    let header = [flags, 0, 0, 0, 17, 0, 0, 10, 0, 0];
    let parts = [b"WEBP".to_vec(), part(b"VP8X", &header), parts.concat()].concat();
    part(b"RIFF", &parts)
}

#[test]
fn a_lossy_frame_larger_than_its_picture_is_refused_before_it_is_decoded() {
    let lossy = fixture("lossy.webp");
    // After the headers of the file and of its only part.
    let frame = lossy[20..].to_vec();
    let mut huge = frame.clone();
    // 16,383 pixels on each side.
    huge[6..10].copy_from_slice(&[0xff, 0x3f, 0xff, 0x3f]);
    let whole = extended_webp(0, &[part(b"VP8 ", &frame)]);
    assert_eq!(
        decoded(&whole, &OPTIONS).unwrap().pixels,
        decoded(&lossy, &OPTIONS).unwrap().pixels
    );
    const ANIMATION: u8 = 2;
    let animated = |parts: &[Vec<u8>]| {
        // A frame at 0, 0 of the picture's size.
        let header = [0, 0, 0, 0, 0, 0, 17, 0, 0, 10, 0, 0, 0, 0, 0, 0];
        let frame = part(b"ANMF", &[&header[..], &parts.concat()].concat());
        extended_webp(ANIMATION, &[part(b"ANIM", &[0; 6]), frame])
    };
    assert!(decoded(&animated(&[part(b"VP8 ", &frame)]), &OPTIONS).is_ok());
    for file in [
        extended_webp(0, &[part(b"VP8 ", &huge)]),
        animated(&[part(b"VP8 ", &huge)]),
        animated(&[part(b"ALPH", &[0; 199]), part(b"ANY ", &huge)]),
    ] {
        let problem = in_modest_memory(|| decoded(&file, &OPTIONS)).unwrap_err();
        assert_eq!(
            problem,
            "cannot be decoded: a frame of 16383x16383 pixels is larger than the picture"
        );
    }
}

#[test]
fn a_part_of_a_webp_file_is_as_long_as_it_says_and_what_follows_the_file_is_ignored() {
    let lossy = fixture("lossy.webp");
    let frame = part(b"VP8 ", &lossy[20..]);
    let mut long = part(b"EXIF", &[0; 4]);
    long[4..8].copy_from_slice(&[0xf0, 0xff, 0xff, 0xff]);
    const EXIF: u8 = 8;
    let problem = decoded(
        &extended_webp(EXIF, &[frame.clone(), long.clone()]),
        &OPTIONS,
    );
    assert_eq!(problem.unwrap_err(), "cannot be decoded: it is truncated");
    for file in [lossy, extended_webp(0, &[frame]), fixture("animated.webp")] {
        let whole = decoded(&file, &OPTIONS).unwrap();
        let followed = [file, long.clone()].concat();
        assert_eq!(decoded(&followed, &OPTIONS).unwrap(), whole);
    }
}

#[test]
fn truncated_files_are_refused() {
    for name in [
        "progressive.jpg",
        "alpha.png",
        "lossless.webp",
        "lossy.webp",
    ] {
        let file = fixture(name);
        for length in 0..file.len() {
            assert!(
                decoded(&file[..length], &OPTIONS).is_err(),
                "{name}: {length} bytes"
            );
        }
    }
}

proptest! {
    #![proptest_config(cases(1500))]

    #[test]
    fn a_foreign_file_is_a_picture_or_a_line_of_text(
        file in foreign([
            "exif-6.webp", "lossy.webp", "alpha.webp", "animated.webp", "exif-6.jpg", "ycck.jpg",
            "palette-transparent.png",
        ].map(fixture).to_vec()),
    ) {
        match in_modest_memory(|| decoded(&file, &OPTIONS)) {
            Ok(picture) => {
                let [channels, height, width] = picture.shape;
                prop_assert!(channels == 1 || channels == 3);
                prop_assert_eq!(picture.pixels.len(), channels * height * width);
            }
            Err(problem) => prop_assert!(problem.len() < 250 && problem.lines().count() == 1),
        }
    }
}
