//! Plain convolutional networks.

use super::{
    blocks::{conv_norm_relu, pooled_head, stem},
    checks::{check_dropout, check_list},
    size::Size,
};
use crate::{LayerSpec, Shape, SpecError, limits};

/// Plain 3×3 convolutions with batch-norm and ReLU, global average pooling and a linear head.
#[derive(Clone, Debug, PartialEq)]
pub struct CnnPreset {
    /// Channels of each stage.
    pub widths: Vec<usize>,
    /// Convolutions in each stage; default 1.
    pub depths: Option<Vec<usize>>,
    /// Stride of each stage's first convolution; default 2.
    pub strides: Option<Vec<usize>>,
    /// Dropout before the head; default 0.
    pub dropout: f64,
}

impl CnnPreset {
    pub(crate) const KEYS: &str = "widths, depths, strides, dropout";

    pub(crate) fn layers(&self, classes: usize) -> Result<Vec<LayerSpec>, SpecError> {
        let stages = self.widths.len();
        check_list("widths", &self.widths, stages, limits::DIMENSION)?;
        let depths = self.depths.clone().unwrap_or(vec![1; stages]);
        check_list("depths", &depths, stages, limits::DEPTH)?;
        let strides = self.strides.clone().unwrap_or(vec![2; stages]);
        check_list("strides", &strides, stages, limits::KERNEL)?;
        check_dropout(self.dropout)?;

        let mut layers = Vec::new();
        for ((&width, &depth), &stride) in self.widths.iter().zip(&depths).zip(&strides) {
            layers.extend(conv_norm_relu(width, 3, stride));
            for _ in 1..depth {
                layers.extend(conv_norm_relu(width, 3, 1));
            }
        }
        layers.extend(pooled_head(classes, self.dropout));
        Ok(layers)
    }
}

/// A [`CnnPreset`] of this size: three stages of 32, 64 and 128 channels times `width`, each with
/// `depth` convolutions and stride 2. Strided convolutions before them halve larger images
/// ([`Size::halvings`]).
pub(crate) fn sized(
    size: &Size,
    input: Shape,
    classes: usize,
) -> Result<Vec<LayerSpec>, SpecError> {
    size.check()?;
    let widths = [32, 64, 128].map(|channels| size.channels(channels));
    let halvings = Size::halvings(input);
    let mut layers = Vec::new();
    if halvings > 0 {
        layers.extend(stem(widths[0], halvings));
    }
    let preset = CnnPreset {
        depths: Some(vec![size.repeats(1); widths.len()]),
        widths: widths.into(),
        strides: None,
        dropout: size.dropout,
    };
    layers.extend(preset.layers(classes)?);
    Ok(layers)
}
