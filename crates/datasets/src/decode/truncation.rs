//! Detects truncated image files, and JPEG files with an undefined number of components.
//!
//! Decoders accept truncated files: they fill the missing part of a JPEG with gray, and ignore a missing end
//! of a PNG. They also accept JPEG files with two components, which no standard defines.

use super::{PictureFormat, webp};

/// The signature of a PNG file.
const PNG_SIGNATURE_BYTES: usize = 8;

/// The length and type before a PNG chunk's data, and the checksum after it.
const PNG_CHUNK_BYTES: usize = 12;

/// Checks that `file` reaches the end marker of its format, and that each part has its declared length. Data
/// after the marker is ignored: cameras append videos and previews.
///
/// # Errors
/// A message if the file is truncated or has an undefined number of components.
pub(super) fn check(file: &[u8], format: PictureFormat) -> Result<(), String> {
    let end = match format {
        PictureFormat::Png => png_end(file),
        PictureFormat::Jpeg => jpeg_end(file)?,
        PictureFormat::WebP => webp::content(file).map(|_| ()),
    };
    end.ok_or_else(|| "it is truncated".to_owned())
}

/// Follows the chunks to IEND.
fn png_end(file: &[u8]) -> Option<()> {
    let mut remaining = file.get(PNG_SIGNATURE_BYTES..).unwrap_or_default();
    while let Some((length, chunk)) = remaining.split_first_chunk::<4>() {
        let length = u32::from_be_bytes(*length) as usize;
        let next = remaining.get(PNG_CHUNK_BYTES + length..)?;
        if chunk.starts_with(b"IEND") {
            return Some(());
        }
        remaining = next;
    }
    None
}

/// Follows the segments to EOI; `None` if there is none.
fn jpeg_end(file: &[u8]) -> Result<Option<()>, String> {
    // Skips what may precede a marker: fill bytes and, after a start of scan, coded data with restart markers.
    let is_marker =
        |pair: &[u8]| pair[0] == 0xff && !matches!(pair[1], 0x00 | 0x01 | 0xd0..=0xd8 | 0xff);
    let mut remaining = file;
    while let Some(position) = remaining.windows(2).position(is_marker) {
        let (marker, segment) = (remaining[position + 1], &remaining[position + 2..]);
        if marker == 0xd9 {
            return Ok(Some(()));
        }
        let is_frame = matches!(marker, 0xc0..=0xcf) && !matches!(marker, 0xc4 | 0xc8 | 0xcc);
        // The number of components follows length, precision, height and width.
        if let Some(components) = segment.get(7).filter(|_| is_frame)
            && !matches!(components, 1 | 3 | 4)
        {
            return Err(format!(
                "it has {components} components; 1, 3 and 4 are allowed"
            ));
        }
        let length = segment.first_chunk().copied().map(u16::from_be_bytes);
        match length.and_then(|length| segment.get(usize::from(length)..)) {
            Some(next) => remaining = next,
            None => return Ok(None),
        }
    }
    Ok(None)
}
