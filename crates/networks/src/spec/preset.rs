//! Presets: well-known families of networks that expand to layers.

use super::layer::LayerSpec;
use crate::{Problem, SpecError, limits};

/// A residual network for small images: a 3×3 stem, stages of blocks of two 3×3 convolutions,
/// global average pooling and a linear head. Each stage after the first halves the image size.
/// Three stages of one block each are a ResNet-8, of two blocks a ResNet-14, of three a ResNet-20.
/// See He et al., "Deep Residual Learning for Image Recognition", section 4.2; shortcuts are
/// projections where the shape changes.
#[derive(Clone, Debug, PartialEq)]
pub struct ResnetPreset {
    /// Channels of each stage.
    pub widths: Vec<usize>,
    /// Blocks in each stage; default 1.
    pub depths: Option<Vec<usize>>,
    /// Stride of the stem; default 1.
    pub stem_stride: usize,
    /// Dropout before the head; default 0.
    pub dropout: f64,
}

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

/// Fully connected layers with ReLU over the flattened image, and a linear head.
#[derive(Clone, Debug, PartialEq)]
pub struct MlpPreset {
    /// Features of each hidden layer.
    pub widths: Vec<usize>,
    /// Dropout after each hidden layer; default 0.
    pub dropout: f64,
}

impl ResnetPreset {
    pub(crate) const KEYS: &str = "widths, depths, stem_stride, dropout";

    pub(crate) fn layers(&self, classes: usize) -> Result<Vec<LayerSpec>, SpecError> {
        let stages = self.widths.len();
        check_list("widths", &self.widths, stages, limits::DIMENSION)?;
        let depths = self.depths.clone().unwrap_or(vec![1; stages]);
        check_list("depths", &depths, stages, limits::DEPTH)?;
        check_dropout(self.dropout)?;

        let mut layers = conv_norm_relu(self.widths[0], self.stem_stride);
        for (stage, (&width, &depth)) in self.widths.iter().zip(&depths).enumerate() {
            for block in 0..depth {
                let stride = if stage > 0 && block == 0 { 2 } else { 1 };
                let mut body = conv_norm_relu(width, stride);
                body.extend([conv3x3(width, 1), LayerSpec::BatchNorm]);
                layers.push(LayerSpec::Residual {
                    body,
                    shortcut: None,
                });
            }
        }
        layers.extend(pooled_head(classes, self.dropout));
        Ok(layers)
    }
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
            layers.extend(conv_norm_relu(width, stride));
            for _ in 1..depth {
                layers.extend(conv_norm_relu(width, 1));
            }
        }
        layers.extend(pooled_head(classes, self.dropout));
        Ok(layers)
    }
}

impl MlpPreset {
    pub(crate) const KEYS: &str = "widths, dropout";

    pub(crate) fn layers(&self, classes: usize) -> Result<Vec<LayerSpec>, SpecError> {
        check_list("widths", &self.widths, self.widths.len(), limits::DIMENSION)?;
        check_dropout(self.dropout)?;
        let mut layers = vec![LayerSpec::Flatten];
        for &features in &self.widths {
            layers.extend([
                LayerSpec::Linear {
                    features,
                    bias: true,
                },
                LayerSpec::Relu,
            ]);
            layers.extend(dropout(self.dropout));
        }
        layers.push(LayerSpec::Linear {
            features: classes,
            bias: true,
        });
        Ok(layers)
    }
}

fn conv3x3(channels: usize, stride: usize) -> LayerSpec {
    LayerSpec::Conv {
        channels,
        kernel: 3,
        stride,
        padding: 1,
        bias: false,
    }
}

fn conv_norm_relu(channels: usize, stride: usize) -> Vec<LayerSpec> {
    vec![
        conv3x3(channels, stride),
        LayerSpec::BatchNorm,
        LayerSpec::Relu,
    ]
}

fn pooled_head(classes: usize, rate: f64) -> Vec<LayerSpec> {
    let mut layers = vec![LayerSpec::GlobalAvgPool, LayerSpec::Flatten];
    layers.extend(dropout(rate));
    layers.push(LayerSpec::Linear {
        features: classes,
        bias: true,
    });
    layers
}

fn dropout(rate: f64) -> Option<LayerSpec> {
    (rate > 0.0).then_some(LayerSpec::Dropout { rate })
}

/// Checks that a preset's list has one number per stage, each from 1 to `most`.
fn check_list(key: &str, list: &[usize], stages: usize, most: usize) -> Result<(), SpecError> {
    if list.is_empty() || list.len() > limits::STAGES || list.len() != stages {
        let allowed = match key {
            "widths" => format!("1 to {} numbers", limits::STAGES),
            _ => format!("{stages} numbers, one for each of `widths`"),
        };
        return Err(Problem::Value {
            place: key.to_owned(),
            value: format!("{} numbers", list.len()),
            allowed,
        }
        .into());
    }
    let problems: Vec<_> = list
        .iter()
        .enumerate()
        .filter(|(_, value)| !(1..=most).contains(*value))
        .map(|(i, value)| Problem::Value {
            place: format!("{key}[{i}]"),
            value: value.to_string(),
            allowed: format!("1 to {most}"),
        })
        .collect();
    SpecError::unless_empty(problems)
}

fn check_dropout(rate: f64) -> Result<(), SpecError> {
    if (0.0..1.0).contains(&rate) {
        return Ok(());
    }
    let allowed = "0 or more, less than 1".to_owned();
    Err(Problem::Value {
        place: "dropout".to_owned(),
        value: rate.to_string(),
        allowed,
    }
    .into())
}
