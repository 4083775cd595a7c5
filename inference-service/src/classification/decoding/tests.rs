use image::{GrayImage, ImageBuffer, Luma, Rgb, RgbImage, Rgba};

use super::*;

fn limits() -> ImagesConfig {
    ImagesConfig {
        max_bytes: 1 << 20,
        max_pixels: 1 << 20,
        decoders: 1,
    }
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

/// A PNG file that claims to be `width` × `height` and has `data` for pixels, not inflated.
fn png_header(width: u32, height: u32, data: &[u8]) -> Vec<u8> {
    let mut file = b"\x89PNG\r\n\x1a\n".to_vec();
    let mut header = [width.to_be_bytes(), height.to_be_bytes()].concat();
    header.extend([8, 0, 0, 0, 0]);
    for (name, content) in [
        (b"IHDR", header.as_slice()),
        (b"IDAT", data),
        (b"IEND", &[]),
    ] {
        file.extend((content.len() as u32).to_be_bytes());
        let mut crc = flate2::Crc::new();
        crc.update(name);
        crc.update(content);
        file.extend(name);
        file.extend(content);
        file.extend(crc.sum().to_be_bytes());
    }
    file
}

#[test]
fn a_png_is_decoded_to_its_very_pixels() {
    let image = gray(5, 3);
    let decoded = decode(&encode(image.clone(), ImageFormat::Png), &limits()).unwrap();
    assert_eq!(
        (decoded.shape, decoded.pixels),
        ([1, 3, 5], image.into_raw())
    );

    let image = colours(5, 3);
    let decoded = decode(&encode(image.clone(), ImageFormat::Png), &limits()).unwrap();
    let expected = Image::from_interleaved(image.as_raw(), [3, 3, 5]);
    assert_eq!(decoded, expected);

    let clear: ImageBuffer<Rgba<u8>, _> =
        ImageBuffer::from_fn(5, 3, |x, y| Rgba([x as u8, y as u8, (x + y) as u8, 0]));
    let decoded = decode(&encode(clear, ImageFormat::Png), &limits()).unwrap();
    assert_eq!(decoded, expected);
}

#[test]
fn a_jpeg_is_decoded_to_almost_its_pixels() {
    for (image, channels) in [
        (DynamicImage::from(gray(16, 8)), 1),
        (DynamicImage::from(colours(16, 8)), 3),
    ] {
        let decoded = decode(&encode(image, ImageFormat::Jpeg), &limits()).unwrap();
        assert_eq!(decoded.shape, [channels, 8, 16]);
    }
}

#[test]
fn what_is_no_image_or_too_large_is_said() {
    let png = encode(gray(50, 30), ImageFormat::Png);
    let jpeg = encode(gray(50, 30), ImageFormat::Jpeg);
    let bomb = encode(GrayImage::new(2000, 2000), ImageFormat::Png);
    let cases: [(&[u8], &str); 10] = [
        (b"", "neither PNG nor JPEG"),
        (b"GIF89a\x01\x00\x01\x00", "neither PNG nor JPEG"),
        (b"<svg/>", "neither PNG nor JPEG"),
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
