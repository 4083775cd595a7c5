//! Checks the parts of a WebP file, which its decoder trusts.
//!
//! The decoder allocates a part by its declared length, and a lossy frame by the size in the frame's own header; it
//! compares that size with the picture's only after it has decoded the frame. It also reads parts after the end of
//! the file.

use std::iter;

/// `RIFF`, the length of what follows, and `WEBP`.
const FILE_HEADER_BYTES: usize = 12;

/// Of the length in the file's header, which does not count itself.
const LENGTH_END: usize = 8;

/// Position, size and duration of a frame of an animation, before its parts.
const FRAME_HEADER_BYTES: usize = 16;

/// Start of a lossy frame, after 3 bytes (RFC 6386, section 9.1); height and width follow.
const KEY_FRAME: [u8; 3] = [0x9d, 0x01, 0x2a];

/// The file without what follows its end; `None` if it is truncated.
pub(super) fn content(file: &[u8]) -> Option<&[u8]> {
    let (length, _) = file.get(4..)?.split_first_chunk::<4>()?;
    let length = u32::from_le_bytes(*length) as usize;
    file.get(..LENGTH_END.checked_add(length)?)
}

/// Checks that every part of `file` has its declared length, and that no lossy frame has more pixels than the
/// picture, which has `pixels`.
///
/// # Errors
/// A message that says what is wrong.
pub(super) fn check(file: &[u8], pixels: u64) -> Result<(), String> {
    for part in parts(file.get(FILE_HEADER_BYTES..).unwrap_or_default()) {
        match part? {
            (b"VP8 ", frame) => check_frame(frame, pixels)?,
            (b"ANMF", frame) => {
                for part in parts(frame.get(FRAME_HEADER_BYTES..).unwrap_or_default()) {
                    match part? {
                        (b"VP8L" | b"ALPH", _) => {}
                        // The decoder does not read the name of the part after the alpha channel.
                        (_, frame) => check_frame(frame, pixels)?,
                    }
                }
            }
            _ => {}
        }
    }
    Ok(())
}

/// Names and contents of the parts in `bytes`; an error is the last item.
fn parts(mut bytes: &[u8]) -> impl Iterator<Item = Result<(&[u8; 4], &[u8]), String>> {
    iter::from_fn(move || {
        let (name, rest) = bytes.split_first_chunk::<4>()?;
        let (length, rest) = rest.split_first_chunk::<4>()?;
        let length = u32::from_le_bytes(*length) as usize;
        let Some((content, rest)) = rest.split_at_checked(length) else {
            bytes = &[];
            return Some(Err("it is truncated".to_owned()));
        };
        // Contents of odd length have a byte of padding, which may be missing at the end.
        bytes = rest.get(length % 2..).unwrap_or_default();
        Some(Ok((name, content)))
    })
}

fn check_frame(frame: &[u8], pixels: u64) -> Result<(), String> {
    let size = frame
        .get(3..10)
        .and_then(|header| header.strip_prefix(&KEY_FRAME));
    let Some([a, b, c, d]) = size else {
        return Ok(());
    };
    // The upper two bits of each side say how to scale the frame.
    let side = |bytes: [u8; 2]| u64::from(u16::from_le_bytes(bytes) & 0x3fff);
    let (width, height) = (side([*a, *b]), side([*c, *d]));
    if width * height > pixels {
        return Err(format!(
            "a frame of {width}x{height} pixels is larger than the picture"
        ));
    }
    Ok(())
}
