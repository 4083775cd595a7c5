//! Decodes PNG and JPEG files.
//!
//! The size in the header is checked before anything of that size is allocated: a file of a few bytes
//! can claim to have 50,000 × 50,000 pixels.

mod panics;
mod truncation;

use std::io::Cursor;

use datasets::Image;
use image::{
    DynamicImage, ImageDecoder, ImageError, ImageFormat, ImageReader, Limits, error::LimitErrorKind,
};

use common::text;

use crate::config::ImagesConfig;

/// Memory of a decoder besides the pixels: tables, rows, profiles.
const DECODER_BYTES: u64 = 16 << 20;

/// The largest pixel in bytes: 16 bits each for red, green, blue and alpha.
const PIXEL_BYTES: u64 = 8;

/// Decodes `file` to gray or RGB with 8 bits per channel. Alpha is ignored; of 16 bits, the upper 8 are
/// used.
///
/// # Errors
/// A message if the file is too large, not PNG or JPEG, truncated or damaged.
pub(super) fn decode(file: &[u8], limits: &ImagesConfig) -> Result<Image, String> {
    if file.len() > limits.max_bytes {
        let (found, allowed) = (file.len(), limits.max_bytes);
        return Err(format!("{found} bytes; at most {allowed} are allowed"));
    }
    let format = match image::guess_format(file) {
        Ok(format @ (ImageFormat::Png | ImageFormat::Jpeg)) => format,
        _ => return Err("is neither PNG nor JPEG".to_owned()),
    };
    let decoded = panics::caught(|| decode_pixels(file, format, limits));
    decoded
        .unwrap_or_else(|message| Err(cannot_be_decoded(&format!("the decoder failed: {message}"))))
}

fn decode_pixels(file: &[u8], format: ImageFormat, limits: &ImagesConfig) -> Result<Image, String> {
    let refused = |error: ImageError| cannot_be_decoded(&describe(&error));
    let mut reader = ImageReader::with_format(Cursor::new(file), format);
    let mut memory = Limits::no_limits();
    memory.max_alloc = Some(limits.max_pixels * PIXEL_BYTES + DECODER_BYTES);
    reader.limits(memory);
    let decoder = reader.into_decoder().map_err(refused)?;
    let (width, height) = decoder.dimensions();
    let pixels = u64::from(width) * u64::from(height);
    if pixels == 0 || pixels > limits.max_pixels {
        let allowed = limits.max_pixels;
        return Err(format!(
            "{width}x{height} pixels; 1 to {allowed} are allowed"
        ));
    }
    truncation::check(file, format).map_err(|problem| cannot_be_decoded(&problem))?;
    let decoded = DynamicImage::from_decoder(decoder).map_err(refused)?;
    let values = usize::from(decoded.color().channel_count());
    // Pixels with two or four values have an alpha channel, which is last.
    let channels = if values < 3 { 1 } else { 3 };
    let pixels = eight_bits(decoded);
    let interleaved: Vec<u8> = pixels
        .chunks_exact(values)
        .flat_map(|pixel| &pixel[..channels])
        .copied()
        .collect();
    let shape = [channels, height as usize, width as usize];
    Ok(Image::from_interleaved(&interleaved, shape))
}

/// Converts the values to 8 bits. Of 16 bits, the upper 8 are used, as Pillow does for 16-bit RGB PNG files.
fn eight_bits(image: DynamicImage) -> Vec<u8> {
    let upper = |values: Vec<u16>| values.into_iter().map(|value| (value >> 8) as u8).collect();
    match image {
        DynamicImage::ImageLuma16(image) => upper(image.into_raw()),
        DynamicImage::ImageLumaA16(image) => upper(image.into_raw()),
        DynamicImage::ImageRgb16(image) => upper(image.into_raw()),
        DynamicImage::ImageRgba16(image) => upper(image.into_raw()),
        // PNG and JPEG have no other formats.
        image => image.into_bytes(),
    }
}

fn describe(error: &ImageError) -> String {
    match error {
        ImageError::Limits(limit) if limit.kind() == LimitErrorKind::InsufficientMemory => {
            "decoding it needs too much memory".to_owned()
        }
        error => error.to_string(),
    }
}

/// Truncates the reason, because decoders may quote the file.
fn cannot_be_decoded(reason: &str) -> String {
    const LONGEST: usize = 160;
    format!("cannot be decoded: {}", text::shorten(reason, LONGEST))
}

#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;
