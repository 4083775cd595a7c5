//! Checks a teacher's answer before it reaches training.

use proto::teacher::v1::{self as wire, Encoding};

use super::SoftTargets;

/// Reads the logits of a batch of `samples`.
///
/// # Errors
/// What is wrong with them, for people.
pub(super) fn read(
    answer: &wire::SoftTargets,
    samples: usize,
    classes: usize,
) -> Result<SoftTargets, String> {
    if answer.encoding() != Encoding::F32 {
        return Err(format!("encoding {} was not asked for", answer.encoding));
    }
    if answer.shape != [samples as u64, classes as u64] {
        return Err(format!(
            "logits of shape {:?} for a batch that needs [{samples}, {classes}]",
            answer.shape
        ));
    }
    let (values, rest) = answer.logits.as_chunks::<4>();
    if !rest.is_empty() || values.len() != samples * classes {
        return Err(format!(
            "{} bytes of logits for shape [{samples}, {classes}], which needs {}",
            answer.logits.len(),
            4 * samples * classes
        ));
    }
    let logits: Vec<f32> = values.iter().copied().map(f32::from_le_bytes).collect();
    match logits.iter().find(|value| !value.is_finite()) {
        Some(value) => Err(format!("a logit is {value}")),
        None => Ok(SoftTargets { logits, classes }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(shape: &[u64], logits: &[f32]) -> wire::SoftTargets {
        let bytes: Vec<u8> = logits
            .iter()
            .flat_map(|value| value.to_le_bytes())
            .collect();
        wire::SoftTargets {
            id: 1,
            encoding: Encoding::F32.into(),
            shape: shape.to_vec(),
            logits: bytes.into(),
        }
    }

    #[test]
    fn logits_are_little_endian_rows() {
        let read = read(&answer(&[2, 1], &[1.5, -2.0]), 2, 1).unwrap();
        assert_eq!(read.logits, [1.5, -2.0]);
        assert_eq!(read.classes, 1);
    }

    #[test]
    fn what_is_wrong_is_said() {
        let whole = answer(&[1, 2], &[1.0, 2.0]);
        let mut cut = whole.clone();
        cut.logits.truncate(7);
        let mut other_encoding = whole.clone();
        other_encoding.encoding = 7;
        let cases = [
            (answer(&[2, 1], &[1.0, 2.0]), "shape [2, 1]"),
            (answer(&[1, 3], &[1.0, 2.0, 3.0]), "needs [1, 2]"),
            (answer(&[1, 2], &[1.0]), "4 bytes"),
            (cut, "7 bytes"),
            (answer(&[1, 2], &[1.0, f32::NAN]), "a logit is NaN"),
            (answer(&[1, 2], &[f32::INFINITY, 0.0]), "a logit is inf"),
            (other_encoding, "encoding 7"),
        ];
        for (answer, part) in cases {
            let error = read(&answer, 1, 2).unwrap_err();
            assert!(error.contains(part), "{part} is not in: {error}");
        }
        assert!(read(&whole, 1, 2).is_ok());
    }
}
