//! The inputs and outputs of a model.

use std::fmt;

/// Name of the only input.
pub const INPUT_NAME: &str = "input";

/// Name of the only output.
pub const OUTPUT_NAME: &str = "logits";

/// The interface of every model that Retort serves: f32 [`INPUT_NAME`] of shape
/// [batch, channels, height, width] to f32 [`OUTPUT_NAME`] of shape [batch, classes], with a
/// dynamic batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ModelInterface {
    /// [channels, height, width]
    pub input_shape: [usize; 3],
    /// Logits per sample.
    pub classes: usize,
}

impl ModelInterface {
    /// Values of one sample.
    pub fn sample_values(&self) -> usize {
        self.input_shape.iter().product()
    }

    /// Reads the interface from the shapes of the input and the output, where `None` stands for a
    /// dynamic dimension.
    ///
    /// Returns `None` unless the batch is the only dynamic dimension of both.
    pub(crate) fn from_shapes(input: &[Option<usize>], output: &[Option<usize>]) -> Option<Self> {
        match (input, output) {
            (&[None, Some(channels), Some(height), Some(width)], &[None, Some(classes)]) => {
                Some(Self {
                    input_shape: [channels, height, width],
                    classes,
                })
            }
            _ => None,
        }
    }
}

impl fmt::Display for ModelInterface {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [channels, height, width] = self.input_shape;
        let classes = self.classes;
        write!(
            f,
            "{INPUT_NAME} [batch, {channels}, {height}, {width}] to {OUTPUT_NAME} [batch, {classes}]"
        )
    }
}
