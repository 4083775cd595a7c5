//! Residual networks.

use super::{
    blocks::{batch_norm, conv, conv_norm_relu, pooled_head, stem},
    checks::{check_dropout, check_list},
    size::Size,
};
use crate::{Activation, LayerSpec, Padding, Shape, SpecError, Window, limits};

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

impl ResnetPreset {
    pub(crate) const KEYS: &str = "widths, depths, stem_stride, dropout";

    pub(crate) fn layers(&self, classes: usize) -> Result<Vec<LayerSpec>, SpecError> {
        let stages = self.widths.len();
        check_list("widths", &self.widths, stages, limits::DIMENSION)?;
        let depths = self.depths.clone().unwrap_or(vec![1; stages]);
        check_list("depths", &depths, stages, limits::DEPTH)?;
        check_dropout(self.dropout)?;

        let mut layers = conv_norm_relu(self.widths[0], 3, self.stem_stride).to_vec();
        layers.extend(stages_of(basic_block, &self.widths, &depths));
        layers.extend(pooled_head(classes, self.dropout));
        Ok(layers)
    }
}

/// A residual network of this size: three stages of 16, 32 and 64 channels times `width` with `depth`
/// blocks each. `width = 10` and `depth = 4` give the layout of WRN-28-10 (Zagoruyko and Komodakis
/// 2016), `width = 1` and `depth = 3` a ResNet-20. The stem halves larger images ([`Size::halvings`]).
pub(crate) fn sized(
    size: &Size,
    input: Shape,
    classes: usize,
) -> Result<Vec<LayerSpec>, SpecError> {
    size.check()?;
    let widths = [16, 32, 64].map(|channels| size.channels(channels));
    let mut layers = stem(widths[0], Size::halvings(input));
    layers.extend(stages_of(basic_block, &widths, &[size.repeats(1); 3]));
    layers.extend(pooled_head(classes, size.dropout));
    Ok(layers)
}

/// A residual network for ImageNet in torchvision's layout: a 7×7 stem, a max-pool and four stages.
/// The image is halved five times, whatever its size.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct DeepResnetPreset {
    /// Which of the networks.
    pub network: DeepResnet,
    /// Dropout before the head; default 0.
    pub dropout: f64,
}

/// Residual networks of He et al. 2015, table 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeepResnet {
    /// ResNet-18.
    Resnet18,
    /// ResNet-34.
    Resnet34,
    /// ResNet-50 with the stride in the 3×3 convolution, like torchvision ("v1.5").
    Resnet50,
}

impl DeepResnetPreset {
    pub(crate) const KEYS: &str = "dropout";

    pub(crate) fn layers(&self, classes: usize) -> Result<Vec<LayerSpec>, SpecError> {
        check_dropout(self.dropout)?;
        let mut layers = conv_norm_relu(64, 7, 2).to_vec();
        layers.push(LayerSpec::MaxPool(Window {
            kernel: 3,
            stride: 2,
            padding: Padding::Each(1),
        }));
        let block = match self.network {
            DeepResnet::Resnet18 | DeepResnet::Resnet34 => basic_block,
            DeepResnet::Resnet50 => bottleneck,
        };
        let widths = [64, 128, 256, 512];
        layers.extend(stages_of(block, &widths, &self.network.depths()));
        layers.extend(pooled_head(classes, self.dropout));
        Ok(layers)
    }
}

impl DeepResnet {
    /// Blocks in each of the four stages.
    pub(crate) fn depths(self) -> [usize; 4] {
        match self {
            DeepResnet::Resnet18 => [2, 2, 2, 2],
            DeepResnet::Resnet34 | DeepResnet::Resnet50 => [3, 4, 6, 3],
        }
    }
}

/// The residual blocks of all stages. The first block of each stage after the first halves the image.
fn stages_of(
    body: impl Fn(usize, usize) -> Vec<LayerSpec>,
    widths: &[usize],
    depths: &[usize],
) -> Vec<LayerSpec> {
    let mut blocks = Vec::new();
    for (stage, (&width, &depth)) in widths.iter().zip(depths).enumerate() {
        for block in 0..depth {
            let stride = if stage > 0 && block == 0 { 2 } else { 1 };
            blocks.push(LayerSpec::Residual {
                body: body(width, stride),
                shortcut: None,
                activation: Some(Activation::Relu),
            });
        }
    }
    blocks
}

/// Two 3×3 convolutions.
fn basic_block(width: usize, stride: usize) -> Vec<LayerSpec> {
    let mut body = conv_norm_relu(width, 3, stride).to_vec();
    body.extend([conv(width, Window::centred(3, 1)), batch_norm()]);
    body
}

/// 1×1, 3×3 and 1×1 convolutions; the last one has four times as many channels.
fn bottleneck(width: usize, stride: usize) -> Vec<LayerSpec> {
    let mut body = conv_norm_relu(width, 1, 1).to_vec();
    body.extend(conv_norm_relu(width, 3, stride));
    body.extend([conv(4 * width, Window::centred(1, 1)), batch_norm()]);
    body
}
