use std::io::Cursor;

use datasets::Ground;
use image::{DynamicImage, GrayImage, ImageBuffer, ImageFormat, Luma, LumaA, Rgb, RgbImage, Rgba};
use proptest::prelude::*;

use super::*;

/// `GROUND` in scripts/golden/pictures.py.
const ORANGE: [u8; 3] = [250, 120, 10];

fn limits() -> ImagesConfig {
    ImagesConfig {
        max_bytes: 1 << 20,
        max_pixels: 1 << 20,
        decoders: 1,
    }
}

fn decode(file: &[u8], limits: &ImagesConfig) -> Result<Image, String> {
    super::decode(file, limits, Ground::WHITE.0)
}

fn encode(image: impl Into<DynamicImage>, format: ImageFormat) -> Vec<u8> {
    let mut file = Cursor::new(Vec::new());
    image.into().write_to(&mut file, format).unwrap();
    file.into_inner()
}

fn gray(width: u32, height: u32) -> GrayImage {
    ImageBuffer::from_fn(width, height, |x, y| Luma([(x * 7 + y * 13) as u8]))
}

fn colours(width: u32, height: u32) -> RgbImage {
    ImageBuffer::from_fn(width, height, |x, y| Rgb([x as u8, y as u8, (x + y) as u8]))
}

/// A PNG file whose header claims `width` × `height`, with `data` as its compressed pixels.
fn png_header(width: u32, height: u32, data: &[u8]) -> Vec<u8> {
    let mut header = [width.to_be_bytes(), height.to_be_bytes()].concat();
    header.extend([8, 0, 0, 0, 0]);
    png(&[(b"IHDR", &header), (b"IDAT", data), (b"IEND", &[])])
}

fn png(chunks: &[(&[u8; 4], &[u8])]) -> Vec<u8> {
    let mut file = b"\x89PNG\r\n\x1a\n".to_vec();
    for (name, content) in chunks {
        file.extend((content.len() as u32).to_be_bytes());
        let mut crc = flate2::Crc::new();
        crc.update(*name);
        crc.update(content);
        file.extend(*name);
        file.extend(*content);
        file.extend(crc.sum().to_be_bytes());
    }
    file
}

#[test]
fn pictures_without_loss_are_decoded_exactly() {
    let image = gray(5, 3);
    let decoded = decode(&encode(image.clone(), ImageFormat::Png), &limits()).unwrap();
    assert_eq!(
        (decoded.shape, decoded.pixels),
        ([1, 3, 5], image.into_raw())
    );

    let image = colours(5, 3);
    let expected = Image::from_interleaved(image.as_raw(), [3, 3, 5]);
    for format in [ImageFormat::Png, ImageFormat::WebP] {
        let decoded = decode(&encode(image.clone(), format), &limits()).unwrap();
        assert_eq!(decoded, expected, "{format:?}");
    }

    // The left columns are transparent, and show the white ground.
    let half_clear = ImageBuffer::from_fn(5, 3, |x, y| {
        let opacity = if x < 2 { 0 } else { 255 };
        Rgba([x as u8, y as u8, (x + y) as u8, opacity])
    });
    for format in [ImageFormat::Png, ImageFormat::WebP] {
        let decoded = decode(&encode(half_clear.clone(), format), &limits()).unwrap();
        for (position, (found, opaque)) in decoded.pixels.iter().zip(&expected.pixels).enumerate() {
            let expected = if position % 5 < 2 { 255 } else { *opaque };
            assert_eq!(*found, expected, "{format:?} {position}");
        }
    }
}

/// The pixels are Pillow's (`ImageOps.exif_transpose`), from scripts/golden/pictures.py.
#[test]
fn pictures_of_cameras_and_the_web_have_the_pixels_of_pillow() {
    let fixtures = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../crates/datasets/src/decode/fixtures"
    );
    let read = |name: &str| std::fs::read(format!("{fixtures}/{name}")).unwrap();
    for (name, allowed) in [
        ("exif-6.jpg", 3),
        ("exif-3.jpg", 3),
        ("exif-6.png", 0),
        ("exif-6.webp", 0),
        ("lossless.webp", 0),
        ("animated.webp", 0),
        ("alpha.png", 0),
        ("alpha.webp", 0),
        ("gray-alpha.png", 0),
        // Decoders differ in how they enlarge the colors, which are stored at half the size.
        ("lossy.webp", 6),
    ] {
        let pixels = read(&format!("{name}.pixels"));
        let (shape, pixels) = pixels.split_at(12);
        let (shape, _) = shape.as_chunks();
        let shape: Vec<_> = shape
            .iter()
            .map(|side| u32::from_le_bytes(*side) as usize)
            .collect();
        let expected = Image::from_interleaved(pixels, shape.try_into().unwrap());
        let decoded = super::decode(&read(name), &limits(), ORANGE).unwrap();
        assert_eq!(decoded.shape, expected.shape, "{name}");
        let differences = decoded.pixels.iter().zip(&expected.pixels);
        let largest = differences.map(|(a, b)| a.abs_diff(*b)).max();
        assert!(largest <= Some(allowed), "{name}: {largest:?}");
    }
}

#[test]
fn of_16_bits_the_upper_8_are_taken_whatever_the_channels() {
    let values: [u16; 10] = [
        0, 0x7f, 0x80, 0xff, 0x100, 0x127f, 0x1280, 0x12ff, 0xff7f, 0xffff,
    ];
    // Computed by scripts/golden/images.py.
    let upper = [0, 0, 0, 0, 1, 18, 18, 18, 255, 255];
    let width = values.len() as u32;
    let gray = ImageBuffer::from_fn(width, 1, |x, _| Luma([values[x as usize]]));
    let with_opacity = ImageBuffer::from_fn(width, 1, |x, _| LumaA([values[x as usize], 0x1234]));
    // With an opacity of 18 of 255, on white.
    let on_white = [237, 237, 237, 237, 237, 238, 238, 238, 255, 255];
    for (image, expected) in [
        (DynamicImage::ImageLuma16(gray), upper),
        (DynamicImage::ImageLumaA16(with_opacity), on_white),
    ] {
        let decoded = decode(&encode(image, ImageFormat::Png), &limits()).unwrap();
        assert_eq!(decoded.shape, [1, 1, values.len()]);
        assert_eq!(decoded.pixels, expected);
    }
    let colours = |x: u32| {
        let value = |offset: usize| values[(x as usize + offset) % values.len()];
        [value(0), value(1), value(2)]
    };
    let rgb = ImageBuffer::from_fn(width, 1, |x, _| Rgb(colours(x)));
    let rgba = ImageBuffer::from_fn(width, 1, |x, _| {
        let [red, green, blue] = colours(x);
        Rgba([red, green, blue, 0xffff])
    });
    for image in [
        DynamicImage::ImageRgb16(rgb),
        DynamicImage::ImageRgba16(rgba),
    ] {
        let decoded = decode(&encode(image, ImageFormat::Png), &limits()).unwrap();
        let rotated = |offset: usize| [&upper[offset..], &upper[..offset]].concat();
        assert_eq!(decoded.shape, [3, 1, values.len()]);
        assert_eq!(decoded.pixels, [0, 1, 2].map(rotated).concat());
    }
}

#[test]
fn palettes_and_fewer_bits_are_converted_to_colours() {
    let header = |bits: u8, colour_type: u8| {
        let size = [0, 0, 0, 4, 0, 0, 0, 1];
        [&size[..], &[bits, colour_type, 0, 0, 0]].concat()
    };
    // The number of the filter, then a row of four pixels of 2 bits with the values 0, 1, 2, 3.
    let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::none());
    std::io::Write::write_all(&mut encoder, &[0, 0b00_01_10_11]).unwrap();
    let row = encoder.finish().unwrap();

    let gray = header(2, 0);
    // The second gray is transparent, or none.
    for (transparent, second) in [(None, 85), (Some([0, 1]), 255)] {
        let transparent = transparent.as_ref().map(|gray| (b"tRNS", &gray[..]));
        let chunks = [
            Some((b"IHDR", &gray[..])),
            transparent,
            Some((b"IDAT", &row)),
            Some((b"IEND", &[])),
        ];
        let file = png(&chunks.into_iter().flatten().collect::<Vec<_>>());
        let decoded = decode(&file, &limits()).unwrap();
        assert_eq!(
            (decoded.shape, &decoded.pixels[..]),
            ([1, 1, 4], &[0, second, 170, 255][..])
        );
    }
    let colours = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12];
    let file = png(&[
        (b"IHDR", &header(2, 3)),
        (b"PLTE", &colours),
        (b"tRNS", &[0, 128]),
        (b"IDAT", &row),
        (b"IEND", &[]),
    ]);
    let decoded = decode(&file, &limits()).unwrap();
    // The first colour is transparent, half of the second: (4 · 128 + 255 · 127) / 255, and so on.
    let on_white = [255, 255, 255, 129, 130, 130, 7, 8, 9, 10, 11, 12];
    assert_eq!(decoded, Image::from_interleaved(&on_white, [3, 1, 4]));
}

#[test]
fn truncated_files_are_rejected_and_data_after_the_end_is_ignored() {
    let png = encode(gray(9, 7), ImageFormat::Png);
    let jpeg = encode(colours(9, 7), ImageFormat::Jpeg);
    let webp = encode(colours(9, 7), ImageFormat::WebP);
    for file in [png, jpeg, webp] {
        for length in 0..file.len() {
            assert!(
                decode(&file[..length], &limits()).is_err(),
                "{length} bytes"
            );
        }
        let whole = decode(&file, &limits()).unwrap();
        let followed = [&file[..], b"\xff\xd8 another image"].concat();
        assert_eq!(decode(&followed, &limits()).unwrap(), whole);
    }
}

/// A JPEG file of 8 × 8 pixels with `components`, whose values are 0 in the shortest codes. All but the first
/// have the sampling factors `sampling`.
fn jpeg(start_of_frame: u8, components: u8, sampling: u8) -> Vec<u8> {
    let segment = |marker: u8, content: &[u8]| {
        let length = (content.len() as u16 + 2).to_be_bytes();
        [&[0xff, marker], &length[..], content].concat()
    };
    let each = |of: &dyn Fn(u8) -> Vec<u8>| (1..=components).flat_map(of).collect::<Vec<u8>>();
    // One code of one bit for the value 0.
    let code = [&[1][..], &[0; 15], &[0]].concat();
    let is_progressive = start_of_frame == 0xc2;
    let spectrum = if is_progressive {
        [0, 0, 0]
    } else {
        [0, 63, 0]
    };
    // Of each component a bit for DC and, unless that comes in another scan, a bit for the end of the block;
    // then ones up to a whole byte.
    let bits = usize::from(components) * if is_progressive { 1 } else { 2 };
    let mut coded = vec![0; bits / 8];
    coded.extend((bits % 8 > 0).then(|| 0xff_u8 >> (bits % 8)));
    [
        vec![0xff, 0xd8],
        segment(0xdb, &[&[0][..], &[1; 64]].concat()),
        segment(
            start_of_frame,
            &[
                &[8, 0, 8, 0, 8, components][..],
                &each(&|id| vec![id, if id == 1 { 0x11 } else { sampling }, 0]),
            ]
            .concat(),
        ),
        segment(0xc4, &[&[0x00][..], &code].concat()),
        segment(0xc4, &[&[0x10][..], &code].concat()),
        segment(
            0xda,
            &[&[components][..], &each(&|id| vec![id, 0]), &spectrum].concat(),
        ),
        coded,
        vec![0xff, 0xd9],
    ]
    .concat()
}

#[test]
fn a_jpeg_on_which_the_decoder_panics_or_with_undefined_components_is_rejected() {
    let (baseline, progressive) = (0xc0, 0xc2);
    for start_of_frame in [baseline, progressive] {
        for (components, value) in [(1, 128), (3, 128), (4, 64)] {
            let decoded = decode(&jpeg(start_of_frame, components, 0x11), &limits()).unwrap();
            let channels = usize::from(components).min(3);
            assert_eq!(decoded.shape, [channels, 8, 8]);
            assert_eq!(decoded.pixels, vec![value; 64 * channels]);
        }
        for components in [0, 2, 5, 255] {
            let file = jpeg(start_of_frame, components, 0x11);
            let error = decode(&file, &limits()).unwrap_err();
            assert!(error.starts_with("cannot be decoded"), "{error}");
        }
    }
    let two = decode(&jpeg(baseline, 2, 0x11), &limits()).unwrap_err();
    assert!(two.contains("it has 2 components"), "{two}");
    // The decoder panics, on some processors: it has no room for colours with more values than the first
    // component.
    if let Err(error) = decode(&jpeg(progressive, 3, 0x22), &limits()) {
        assert!(error.starts_with("cannot be decoded"), "{error}");
        assert!(error.len() < 250, "{error}");
    }
}

proptest! {
    #![proptest_config(test_support::damage::cases(256))]

    #[test]
    fn no_damage_makes_the_decoder_panic_or_answer_another_size(
        format in prop::sample::select(vec![ImageFormat::Png, ImageFormat::Jpeg, ImageFormat::WebP]),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
    ) {
        let mut file = encode(colours(9, 7), format);
        for (position, value) in changes {
            let position = position.index(file.len());
            file[position] = value;
        }
        if let Ok(image) = decode(&file, &limits()) {
            prop_assert_eq!(image.pixels.len(), image.shape.iter().product::<usize>());
        }
    }
}

#[test]
fn a_jpeg_is_decoded_approximately() {
    for (image, channels) in [
        (DynamicImage::from(gray(16, 8)), 1),
        (DynamicImage::from(colours(16, 8)), 3),
    ] {
        let decoded = decode(&encode(image, ImageFormat::Jpeg), &limits()).unwrap();
        assert_eq!(decoded.shape, [channels, 8, 16]);
    }
}

#[test]
fn errors_describe_files_that_are_not_images_or_too_large() {
    let png = encode(gray(50, 30), ImageFormat::Png);
    let jpeg = encode(gray(50, 30), ImageFormat::Jpeg);
    let bomb = encode(GrayImage::new(2000, 2000), ImageFormat::Png);
    let webp = encode(gray(50, 30), ImageFormat::WebP);
    let webp_bomb = encode(GrayImage::new(2000, 2000), ImageFormat::WebP);
    let cases: [(&[u8], &str); 13] = [
        (b"", "not a PNG, JPEG or WebP file"),
        (b"GIF89a\x01\x00\x01\x00", "not a PNG, JPEG or WebP file"),
        (b"<svg/>", "not a PNG, JPEG or WebP file"),
        (
            &webp[..webp.len() / 2],
            "cannot be decoded: it is truncated",
        ),
        (&webp[..20], "cannot be decoded"),
        (&webp_bomb, "2000x2000 pixels"),
        (&png[..png.len() / 2], "cannot be decoded"),
        (&png[..20], "cannot be decoded"),
        (&jpeg[..20], "cannot be decoded"),
        (
            &png_header(50_000, 50_000, &[]),
            "50000x50000 pixels; 1 to 1048576",
        ),
        (&png_header(u32::MAX, u32::MAX, &[]), ""),
        (&png_header(0, 5, &[]), ""),
        (&bomb, "2000x2000 pixels"),
    ];
    for (file, expected) in cases {
        let error = decode(file, &limits()).expect_err(expected);
        assert!(error.contains(expected), "{expected}: {error}");
        assert!(error.len() < 250, "{error}");
    }
    let small = ImagesConfig {
        max_bytes: 10,
        ..limits()
    };
    let error = decode(&png, &small).unwrap_err();
    assert!(error.contains("at most 10 are allowed"), "{error}");
}
