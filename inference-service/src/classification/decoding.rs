//! From the bytes of a PNG or JPEG file to pixels.
//!
//! The size is looked at in the header, before anything of that size is allocated: a file of a few
//! bytes can claim to be 50,000 × 50,000.

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
/// were not.
///
/// # Errors
/// In words, where the file is too large, no PNG or JPEG, or damaged.
pub(super) fn decode(file: &[u8], limits: &ImagesConfig) -> Result<Image, String> {
    if file.len() > limits.max_bytes {
        let (found, allowed) = (file.len(), limits.max_bytes);
        return Err(format!("{found} bytes; at most {allowed} are allowed"));
    }
    let format = match image::guess_format(file) {
        Ok(format @ (ImageFormat::Png | ImageFormat::Jpeg)) => format,
        _ => return Err("is neither PNG nor JPEG".to_owned()),
    };
    let mut reader = ImageReader::with_format(Cursor::new(file), format);
    let mut memory = Limits::no_limits();
    memory.max_alloc = Some(limits.max_pixels * PIXEL_BYTES + DECODER_BYTES);
    reader.limits(memory);
    let decoder = reader.into_decoder().map_err(|error| describe(&error))?;
    let (width, height) = decoder.dimensions();
    let pixels = u64::from(width) * u64::from(height);
    if pixels == 0 || pixels > limits.max_pixels {
        let allowed = limits.max_pixels;
        return Err(format!(
            "{width}x{height} pixels; 1 to {allowed} are allowed"
        ));
    }
    let decoded = DynamicImage::from_decoder(decoder).map_err(|error| describe(&error))?;
    let size = [height as usize, width as usize];
    let is_gray = decoded.color().channel_count() < 3;
    let (interleaved, channels) = match is_gray {
        true => (decoded.into_luma8().into_raw(), 1),
        false => (decoded.into_rgb8().into_raw(), 3),
    };
    Ok(Image::from_interleaved(
        &interleaved,
        [channels, size[0], size[1]],
    ))
}

/// Never more than a line: decoders may repeat what they found.
fn describe(error: &ImageError) -> String {
    const LONGEST: usize = 160;
    let words = match error {
        ImageError::Limits(limit) if limit.kind() == LimitErrorKind::InsufficientMemory => {
            "decoding it needs too much memory".to_owned()
        }
        error => error.to_string(),
    };
    let line = words.chars().map(|c| if c.is_control() { ' ' } else { c });
    format!(
        "cannot be decoded: {}",
        line.take(LONGEST).collect::<String>()
    )
}

#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;
