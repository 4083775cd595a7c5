//! How a teacher's images are resized, in messages.

use datasets::Interpolation;
use proto::teacher::v1 as wire;

/// Writes an interpolation.
pub fn interpolation_to_wire(interpolation: Interpolation) -> wire::Interpolation {
    match interpolation {
        Interpolation::Bilinear => wire::Interpolation::Bilinear,
        Interpolation::Bicubic => wire::Interpolation::Bicubic,
    }
}

/// Reads an interpolation. A teacher that names none wants bilinear.
///
/// # Errors
/// That this version does not know it, in words for the user.
pub fn interpolation_from_wire(value: i32) -> Result<Interpolation, String> {
    match wire::Interpolation::try_from(value) {
        Ok(wire::Interpolation::Unspecified | wire::Interpolation::Bilinear) => {
            Ok(Interpolation::Bilinear)
        }
        Ok(wire::Interpolation::Bicubic) => Ok(Interpolation::Bicubic),
        Err(_) => Err(format!(
            "wants images resized with interpolation {value}, which this version does not know"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interpolation_is_read_as_it_was_written() {
        for interpolation in [Interpolation::Bilinear, Interpolation::Bicubic] {
            let written = interpolation_to_wire(interpolation);
            assert_eq!(interpolation_from_wire(written.into()), Ok(interpolation));
        }
        assert_eq!(interpolation_from_wire(0), Ok(Interpolation::Bilinear));
        let error = interpolation_from_wire(99).unwrap_err();
        assert!(error.contains("interpolation 99"), "{error}");
    }
}
