//! Fully connected networks.

use super::{
    blocks::{dropout, linear, relu},
    checks::{check_dropout, check_list},
    size::Size,
};
use crate::{LayerSpec, Shape, SpecError, limits};

/// Fully connected layers with ReLU, and a linear head. An image is flattened before them.
#[derive(Clone, Debug, PartialEq)]
pub struct MlpPreset {
    /// Features of each hidden layer.
    pub widths: Vec<usize>,
    /// Dropout after each hidden layer; default 0.
    pub dropout: f64,
}

impl MlpPreset {
    pub(crate) const KEYS: &str = "widths, dropout";

    pub(crate) fn layers(&self, input: Shape, classes: usize) -> Result<Vec<LayerSpec>, SpecError> {
        check_list("widths", &self.widths, self.widths.len(), limits::DIMENSION)?;
        check_dropout(self.dropout)?;
        let mut layers = match input {
            Shape::Image { .. } => vec![LayerSpec::Flatten],
            Shape::Vector { .. } => Vec::new(),
        };
        for &features in &self.widths {
            layers.extend([linear(features), relu()]);
            layers.extend(dropout(self.dropout));
        }
        layers.push(linear(classes));
        Ok(layers)
    }
}

/// An [`MlpPreset`] of this size: `depth` hidden layers of 256 features times `width`.
pub(crate) fn sized(
    size: &Size,
    input: Shape,
    classes: usize,
) -> Result<Vec<LayerSpec>, SpecError> {
    size.check()?;
    let preset = MlpPreset {
        widths: vec![size.channels(256); size.repeats(1)],
        dropout: size.dropout,
    };
    preset.layers(input, classes)
}
