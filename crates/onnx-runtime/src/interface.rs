//! The inputs and outputs of a model.

use std::fmt;

use tensors::{DataType, Signature, TensorSpec};

/// Name of the only input.
pub const INPUT_NAME: &str = "input";

/// Name of the only output.
pub const OUTPUT_NAME: &str = "logits";

/// The interface of every model that Retort serves: f32 [`INPUT_NAME`] of images,
/// [batch, channels, height, width], or of rows, [batch, values]; to f32 [`OUTPUT_NAME`] of shape
/// [batch, classes], with a dynamic batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelInterface {
    /// Shape of one sample: [channels, height, width] or [values].
    pub sample: Vec<usize>,
    /// Logits per sample.
    pub classes: usize,
}

impl ModelInterface {
    /// Values of one sample.
    pub fn sample_values(&self) -> usize {
        self.sample.iter().product()
    }

    /// The interface as named tensors.
    pub fn signature(&self) -> Signature {
        Signature {
            inputs: vec![self.input()],
            outputs: vec![TensorSpec::batch_of(
                OUTPUT_NAME,
                DataType::Fp32,
                &[self.classes],
            )],
        }
    }

    /// The only input.
    pub fn input(&self) -> TensorSpec {
        TensorSpec::batch_of(INPUT_NAME, DataType::Fp32, &self.sample)
    }

    /// Reads the interface from the shapes of the input and the output, where `None` stands for a
    /// dynamic dimension.
    ///
    /// Returns `None` unless the batch is the only dynamic dimension of both.
    pub(crate) fn from_shapes(input: &[Option<usize>], output: &[Option<usize>]) -> Option<Self> {
        match (input, output) {
            ([None, sample @ ..], &[None, Some(classes)]) if matches!(sample.len(), 1 | 3) => {
                let sample = sample.iter().copied().collect::<Option<_>>()?;
                Some(Self { sample, classes })
            }
            _ => None,
        }
    }
}

impl fmt::Display for ModelInterface {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.signature().fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_and_rows_with_a_dynamic_batch_are_read() {
        let read = |input: &[Option<usize>]| ModelInterface::from_shapes(input, &[None, Some(5)]);
        let images = read(&[None, Some(3), Some(2), Some(4)]).unwrap();
        assert_eq!(
            (&images.sample[..], images.sample_values()),
            (&[3, 2, 4][..], 24)
        );
        let rows = read(&[None, Some(30)]).unwrap();
        assert_eq!(
            rows.to_string(),
            "`input` FP32 [batch, 30] -> `logits` FP32 [batch, 5]"
        );
        for other in [
            &[][..],
            &[None],
            &[None, None],
            &[Some(1), Some(30)],
            &[None, Some(3), Some(4)],
            &[None, Some(3), None, Some(4)],
        ] {
            assert_eq!(read(other), None, "{other:?}");
        }
        assert_eq!(
            ModelInterface::from_shapes(&[None, Some(30)], &[None]),
            None
        );
    }
}
