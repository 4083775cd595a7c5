//! Whether an image file is there to its end, and means colours.
//!
//! Decoders make up what a truncated file lacks: gray areas of a JPEG, and a PNG's end may be missing
//! altogether. They also make colours of two components, which no standard defines.

use image::ImageFormat;

/// The signature of a PNG file.
const PNG_SIGNATURE_BYTES: usize = 8;

/// Length and name before a PNG chunk's data, and the checksum behind it.
const PNG_CHUNK_BYTES: usize = 12;

/// Checks that `file` reaches its format's end mark, each part as long as it says. What follows the mark
/// does not count: cameras append films and previews.
///
/// # Errors
/// In words, where it does not, or where it has a number of components that stands for no colours.
pub(super) fn check(file: &[u8], format: ImageFormat) -> Result<(), String> {
    let end = match format {
        ImageFormat::Png => png_end(file),
        _ => jpeg_end(file)?,
    };
    end.ok_or_else(|| "it is truncated".to_owned())
}

/// Follows the chunks to IEND.
fn png_end(file: &[u8]) -> Option<()> {
    let mut rest = file.get(PNG_SIGNATURE_BYTES..).unwrap_or_default();
    while let Some((length, behind)) = rest.split_first_chunk::<4>() {
        let length = u32::from_be_bytes(*length) as usize;
        let next = rest.get(PNG_CHUNK_BYTES + length..)?;
        if behind.starts_with(b"IEND") {
            return Some(());
        }
        rest = next;
    }
    None
}

/// Follows the segments to EOI; `None` where there is none.
fn jpeg_end(file: &[u8]) -> Result<Option<()>, String> {
    // In front of a marker may stand fill bytes and, after a start of scan, coded data with restart
    // markers: all of that is passed over.
    let is_marker =
        |pair: &[u8]| pair[0] == 0xff && !matches!(pair[1], 0x00 | 0x01 | 0xd0..=0xd8 | 0xff);
    let mut rest = file;
    while let Some(position) = rest.windows(2).position(is_marker) {
        let (marker, segment) = (rest[position + 1], &rest[position + 2..]);
        if marker == 0xd9 {
            return Ok(Some(()));
        }
        let is_frame = matches!(marker, 0xc0..=0xcf) && !matches!(marker, 0xc4 | 0xc8 | 0xcc);
        // Length, precision, height and width stand before the number of components.
        if let Some(components) = segment.get(7).filter(|_| is_frame)
            && !matches!(components, 1 | 3 | 4)
        {
            return Err(format!(
                "it has {components} components; 1, 3 and 4 are allowed"
            ));
        }
        let length = segment.first_chunk().copied().map(u16::from_be_bytes);
        match length.and_then(|length| segment.get(usize::from(length)..)) {
            Some(next) => rest = next,
            None => return Ok(None),
        }
    }
    Ok(None)
}
