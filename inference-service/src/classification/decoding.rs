//! Decodes PNG, JPEG and WebP files within the service's limits.

use datasets::{Alpha, Decoding, Image, PictureFormat};

use crate::config::ImagesConfig;

/// Decodes `file` to gray or RGB with 8 bits per channel, as data sets do: upright, on a ground of the color `ground`
/// (red, green, blue); of 16 bits, the upper 8 are used.
///
/// # Errors
/// A message if the file is too large, not PNG, JPEG or WebP, truncated or damaged.
pub(super) fn decode(file: &[u8], limits: &ImagesConfig, ground: [u8; 3]) -> Result<Image, String> {
    if file.len() > limits.max_bytes {
        let (found, allowed) = (file.len(), limits.max_bytes);
        return Err(format!("{found} bytes; at most {allowed} are allowed"));
    }
    let format = PictureFormat::of(file).ok_or("is not a PNG, JPEG or WebP file")?;
    let options = Decoding {
        alpha: Alpha::Over(ground),
        ..Decoding::upright_on_white(limits.max_pixels)
    };
    let decoded =
        datasets::decode(file, format, &options).map_err(|problem| problem.to_string())?;
    Ok(Image::from_interleaved(&decoded.pixels, decoded.shape))
}

#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;
