//! From the bytes of a PNG or JPEG file to pixels.
//!
//! The size is looked at in the header, before anything of that size is allocated: a file of a few
//! bytes can claim to be 50,000 × 50,000.

mod panics;
mod whole;

use std::io::Cursor;

use datasets::Image;
use image::{
    DynamicImage, ImageDecoder, ImageError, ImageFormat, ImageReader, Limits, error::LimitErrorKind,
};

use crate::config::ImagesConfig;

/// Room for what a decoder needs beside the pixels: tables, rows, profiles.
const DECODER_BYTES: u64 = 16 << 20;

/// Bytes of a pixel, at most: 16 bits of red, green, blue and opacity.
const PIXEL_BYTES: u64 = 8;

/// Decodes `file` to gray or to red, green and blue of 8 bits; what is transparent is shown as if it
/// were not. Of 16 bits the upper 8 are taken.
///
/// # Errors
/// In words, where the file is too large, no PNG or JPEG, truncated, or damaged.
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
    decoded.unwrap_or_else(|words| Err(cannot_be_decoded(&format!("the decoder failed: {words}"))))
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
    whole::check(file, format).map_err(|problem| cannot_be_decoded(&problem))?;
    let decoded = DynamicImage::from_decoder(decoder).map_err(refused)?;
    let values = usize::from(decoded.color().channel_count());
    // With two or four values a pixel, the last is its opacity.
    let channels = if values < 3 { 1 } else { 3 };
    let visible = eight_bits(decoded);
    let visible = visible.chunks_exact(values);
    let interleaved: Vec<u8> = visible
        .flat_map(|pixel| &pixel[..channels])
        .copied()
        .collect();
    let shape = [channels, height as usize, width as usize];
    Ok(Image::from_interleaved(&interleaved, shape))
}

/// The values in 8 bits each: of 16 the upper 8, as Pillow reads PNG files with colours of 16 bits.
fn eight_bits(image: DynamicImage) -> Vec<u8> {
    let upper = |values: Vec<u16>| values.into_iter().map(|value| (value >> 8) as u8).collect();
    match image {
        DynamicImage::ImageLuma16(image) => upper(image.into_raw()),
        DynamicImage::ImageLumaA16(image) => upper(image.into_raw()),
        DynamicImage::ImageRgb16(image) => upper(image.into_raw()),
        DynamicImage::ImageRgba16(image) => upper(image.into_raw()),
        // PNG and JPEG know no others.
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

/// Never more than a line: decoders may repeat what they found.
fn cannot_be_decoded(why: &str) -> String {
    const LONGEST: usize = 160;
    let line = why.chars().map(|c| if c.is_control() { ' ' } else { c });
    format!(
        "cannot be decoded: {}",
        line.take(LONGEST).collect::<String>()
    )
}

#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;
