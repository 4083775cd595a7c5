//! Whether an image file is there to its end.
//!
//! Decoders make up what a truncated file lacks: gray areas of a JPEG, and a PNG's end may be missing
//! altogether.

use image::ImageFormat;

/// The signature of a PNG file.
const PNG_SIGNATURE_BYTES: usize = 8;

/// Length and name before a PNG chunk's data, and the checksum behind it.
const PNG_CHUNK_BYTES: usize = 12;

/// Whether `file` reaches its format's end mark, each part as long as it says. What follows the mark does
/// not count: cameras append films and previews.
pub(super) fn is_whole(file: &[u8], format: ImageFormat) -> bool {
    match format {
        ImageFormat::Png => png_ends(file),
        ImageFormat::Jpeg => jpeg_ends(file),
        _ => false,
    }
}

/// Follows the chunks to IEND.
fn png_ends(file: &[u8]) -> bool {
    let mut rest = file.get(PNG_SIGNATURE_BYTES..).unwrap_or_default();
    while let Some((length, behind)) = rest.split_first_chunk::<4>() {
        let length = u32::from_be_bytes(*length) as usize;
        let Some(next) = rest.get(PNG_CHUNK_BYTES + length..) else {
            return false;
        };
        if behind.starts_with(b"IEND") {
            return true;
        }
        rest = next;
    }
    false
}

/// Follows the segments to EOI.
fn jpeg_ends(file: &[u8]) -> bool {
    // In front of a marker may stand fill bytes and, after a start of scan, coded data with restart
    // markers: all of that is passed over.
    let is_marker =
        |pair: &[u8]| pair[0] == 0xff && !matches!(pair[1], 0x00 | 0x01 | 0xd0..=0xd8 | 0xff);
    let mut rest = file;
    while let Some(position) = rest.windows(2).position(is_marker) {
        let (marker, segment) = (rest[position + 1], &rest[position + 2..]);
        if marker == 0xd9 {
            return true;
        }
        let Some((length, _)) = segment.split_first_chunk::<2>() else {
            return false;
        };
        let length = usize::from(u16::from_be_bytes(*length));
        let Some(next) = segment.get(length..) else {
            return false;
        };
        rest = next;
    }
    false
}
