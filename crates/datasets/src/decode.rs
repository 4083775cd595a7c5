//! Decodes PNG, JPEG and WebP files.
//!
//! The size in the header is checked before anything of that size is allocated: a file of a few bytes
//! can claim to have 50,000 × 50,000 pixels.

mod truncation;
mod webp;

use std::{borrow::Cow, io::Cursor};

use common::text;
use image::{
    ColorType, DynamicImage, ImageDecoder, ImageError, ImageFormat, ImageReader, Limits,
    error::LimitErrorKind,
};

use crate::{Ground, Layout, Picture, panics};

/// Memory of a decoder besides the pixels: tables, rows, profiles.
const DECODER_BYTES: u64 = 16 << 20;

/// The largest pixel in bytes: 16 bits each for red, green, blue and alpha.
const PIXEL_BYTES: u64 = 8;

/// Formats of picture files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PictureFormat {
    /// Portable Network Graphics, without animation.
    Png,
    /// Baseline and progressive; gray, color, CMYK and YCCK.
    Jpeg,
    /// Lossy and lossless; of an animation, the first picture.
    WebP,
}

/// How picture files are decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Decoding {
    /// Most pixels of a picture.
    pub max_pixels: u64,
    /// What transparent pixels become.
    pub alpha: Alpha,
    /// Whether pictures are turned.
    pub turning: Turning,
}

impl Decoding {
    /// As data sets are decoded and models are served, unless they name another ground.
    pub const fn upright_on_white(max_pixels: u64) -> Self {
        Self {
            max_pixels,
            alpha: Alpha::Over(Ground::WHITE.0),
            turning: Turning::Upright,
        }
    }
}

/// What transparent pixels become.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Alpha {
    /// The color that the file stores for them, as after Pillow's `convert("RGB")`.
    Ignored,
    /// The picture is pasted onto a ground of this color (red, green, blue), as by Pillow's `paste` with a mask.
    Over([u8; 3]),
}

/// Whether pictures are turned to the orientation that their EXIF data names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turning {
    /// Pixels stay as stored, as after Pillow's `Image.open`.
    AsStored,
    /// Pictures are shown upright, as by Pillow's `ImageOps.exif_transpose`.
    Upright,
}

/// Why a picture file cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The picture has no pixels or too many.
    #[error("{width}x{height} pixels; 1 to {allowed} are allowed")]
    Pixels {
        /// Width in the file's header.
        width: u32,
        /// Height in the file's header.
        height: u32,
        /// Most pixels.
        allowed: u64,
    },
    /// The file is truncated or damaged, or has a feature that is not supported.
    #[error("cannot be decoded: {0}")]
    Damaged(String),
}

/// Decodes `file` to gray or RGB with 8 bits per channel, interleaved. Of 16 bits, the upper 8 are used.
///
/// # Errors
/// See [`DecodeError`].
pub fn decode(
    file: &[u8],
    format: PictureFormat,
    options: &Decoding,
) -> Result<Picture<'static>, DecodeError> {
    let decoded = panics::caught(|| decode_pixels(file, format, options));
    decoded.unwrap_or_else(|message| Err(damaged(&format!("the decoder failed: {message}"))))
}

impl PictureFormat {
    /// The format of `file`, from its first bytes.
    pub fn of(file: &[u8]) -> Option<Self> {
        match image::guess_format(file) {
            Ok(ImageFormat::Png) => Some(Self::Png),
            Ok(ImageFormat::Jpeg) => Some(Self::Jpeg),
            Ok(ImageFormat::WebP) => Some(Self::WebP),
            _ => None,
        }
    }

    fn of_image_crate(self) -> ImageFormat {
        match self {
            Self::Png => ImageFormat::Png,
            Self::Jpeg => ImageFormat::Jpeg,
            Self::WebP => ImageFormat::WebP,
        }
    }
}

fn decode_pixels(
    file: &[u8],
    format: PictureFormat,
    options: &Decoding,
) -> Result<Picture<'static>, DecodeError> {
    let refused = |error: ImageError| damaged(&describe(&error));
    let file = match format {
        PictureFormat::WebP => webp::content(file).unwrap_or(file),
        PictureFormat::Png | PictureFormat::Jpeg => file,
    };
    let mut reader = ImageReader::with_format(Cursor::new(file), format.of_image_crate());
    let mut memory = Limits::no_limits();
    let pixel_bytes = options.max_pixels.saturating_mul(PIXEL_BYTES);
    memory.max_alloc = Some(pixel_bytes.saturating_add(DECODER_BYTES));
    reader.limits(memory);
    let mut decoder = reader.into_decoder().map_err(refused)?;
    let (width, height) = decoder.dimensions();
    let pixels = u64::from(width) * u64::from(height);
    if pixels == 0 || pixels > options.max_pixels {
        return Err(DecodeError::Pixels {
            width,
            height,
            allowed: options.max_pixels,
        });
    }
    truncation::check(file, format).map_err(|problem| damaged(&problem))?;
    if format == PictureFormat::WebP {
        webp::check(file, pixels).map_err(|problem| damaged(&problem))?;
    }
    let orientation = match options.turning {
        Turning::AsStored => None,
        // Damaged EXIF data does not make a picture unusable.
        Turning::Upright => decoder.orientation().ok(),
    };
    let mut decoded = DynamicImage::from_decoder(decoder).map_err(refused)?;
    if let Some(orientation) = orientation {
        decoded.apply_orientation(orientation);
    }
    let size = [decoded.height() as usize, decoded.width() as usize];
    let color = decoded.color();
    let (channels, pixels) = without_alpha(eight_bits(decoded), color, options.alpha);
    Ok(Picture {
        pixels: Cow::Owned(pixels),
        layout: Layout::Interleaved,
        shape: [channels, size[0], size[1]],
    })
}

/// Number of channels and interleaved values of a picture without its alpha channel, which is last.
fn without_alpha(values: Vec<u8>, color: ColorType, alpha: Alpha) -> (usize, Vec<u8>) {
    let channels = if color.has_color() { 3 } else { 1 };
    if !color.has_alpha() {
        return (channels, values);
    }
    let pixels = values.chunks_exact(channels + 1);
    match alpha {
        Alpha::Ignored => (
            channels,
            pixels
                .flat_map(|pixel| &pixel[..channels])
                .copied()
                .collect(),
        ),
        Alpha::Over(ground @ [red, green, blue])
            if channels == 3 || red != green || red != blue =>
        {
            let over = |pixel: &[u8]| {
                let opacity = pixel[channels];
                [0, 1, 2].map(|at| blend(pixel[at.min(channels - 1)], ground[at], opacity))
            };
            (3, pixels.flat_map(over).collect())
        }
        Alpha::Over([gray, ..]) => (
            1,
            pixels
                .map(|pixel| blend(pixel[0], gray, pixel[1]))
                .collect(),
        ),
    }
}

/// A value over a ground, rounded as by Pillow's `BLEND`.
fn blend(value: u8, ground: u8, opacity: u8) -> u8 {
    let [value, ground, opacity] = [value, ground, opacity].map(u32::from);
    let sum = value * opacity + ground * (255 - opacity) + 128;
    // A sum of at most 255² + 128 is divided by 255, so the result fits a u8.
    (((sum >> 8) + sum) >> 8) as u8
}

/// Converts the values to 8 bits. Of 16 bits, the upper 8 are used, as Pillow does for 16-bit RGB PNG files.
fn eight_bits(image: DynamicImage) -> Vec<u8> {
    let upper = |values: Vec<u16>| values.into_iter().map(|value| (value >> 8) as u8).collect();
    match image {
        DynamicImage::ImageLuma16(image) => upper(image.into_raw()),
        DynamicImage::ImageLumaA16(image) => upper(image.into_raw()),
        DynamicImage::ImageRgb16(image) => upper(image.into_raw()),
        DynamicImage::ImageRgba16(image) => upper(image.into_raw()),
        // The three formats have no others.
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
fn damaged(reason: &str) -> DecodeError {
    const LONGEST: usize = 160;
    DecodeError::Damaged(text::shorten(reason, LONGEST))
}

#[cfg(test)]
mod tests;
