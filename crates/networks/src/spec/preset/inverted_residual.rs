//! MobileNetV2 and EfficientNet-Lite: networks of inverted residual blocks.

use serde::{Deserialize, Serialize};

use super::{
    blocks::pooled_head,
    size::{Size, halvings_that_leave},
};
use crate::{Activation, BATCH_NORM_EPSILON, LayerSpec, Padding, Shape, SpecError, Window};

/// MobileNetV2 (Sandler et al. 2018) in torchvision's layout.
///
/// The strides adapt to the image. Of the five convolutions with stride 2, the first ones get stride 1
/// where the last stage would see less than 4 rows or columns: an image of 128 pixels or more is halved
/// five times, as in the paper, one of 32 pixels three times and one of 28 pixels twice. The strides do
/// not affect the shapes of the weights. The last convolution has 1280 channels times `width`, but at
/// least 1280.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MobilenetV2Preset {
    /// The size; the default is 1 for both multipliers.
    pub size: Size,
    /// Details that depend on the framework; default [`Convention::Torch`].
    pub convention: Convention,
}

/// EfficientNet-Lite (Tan and Le 2019, without squeeze-and-excitation and with ReLU6). The first and
/// the last convolution, and the number of blocks in the first and last stage, do not depend on the
/// size. Lite0 to Lite4 have widths 1, 1, 1.1, 1.2, 1.4 and depths 1, 1.1, 1.2, 1.4, 1.8.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct EfficientnetLitePreset {
    /// How large the network is.
    pub scaling: Scaling,
    /// Details that depend on the framework; default [`Convention::Tensorflow`], with which the
    /// published networks were trained.
    pub convention: Convention,
}

/// How an EfficientNet-Lite is scaled.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Scaling {
    /// `efficientnet_lite0`: the network as it was published; it halves every image five times.
    Lite0 {
        /// Dropout before the head; default 0.
        dropout: f64,
    },
    /// `efficientnet_lite`: a student. Its strides adapt to the image, as for [`MobilenetV2Preset`].
    Student(Size),
}

/// Details in which networks from PyTorch and from TensorFlow differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Convention {
    /// Equal padding on all sides; batch-norm's epsilon is 1e-5.
    Torch,
    /// Padding as needed ([`Padding::Same`]); batch-norm's epsilon is 1e-3.
    Tensorflow,
}

/// Blocks with the same output channels. Only the first one has the stage's stride.
#[derive(Clone, Copy)]
struct Stage {
    kernel: usize,
    stride: usize,
    /// Channels inside a block, as a multiple of the block's input channels.
    expansion: usize,
    channels: usize,
    repeats: usize,
}

const fn stage(
    kernel: usize,
    stride: usize,
    expansion: usize,
    channels: usize,
    repeats: usize,
) -> Stage {
    Stage {
        kernel,
        stride,
        expansion,
        channels,
        repeats,
    }
}

/// Sandler et al. 2018, table 2.
const MOBILENET_V2: [Stage; 7] = [
    stage(3, 1, 1, 16, 1),
    stage(3, 2, 6, 24, 2),
    stage(3, 2, 6, 32, 3),
    stage(3, 2, 6, 64, 4),
    stage(3, 1, 6, 96, 3),
    stage(3, 2, 6, 160, 3),
    stage(3, 1, 6, 320, 1),
];

/// Tan and Le 2019, table 1.
const EFFICIENTNET: [Stage; 7] = [
    stage(3, 1, 1, 16, 1),
    stage(3, 2, 6, 24, 2),
    stage(5, 2, 6, 40, 2),
    stage(3, 2, 6, 80, 3),
    stage(5, 1, 6, 112, 3),
    stage(5, 2, 6, 192, 4),
    stage(3, 1, 6, 320, 1),
];

/// The number of strided convolutions in both tables, with the stem.
const HALVINGS: u32 = 5;
const STEM: usize = 32;
const HEAD: usize = 1280;

/// A network of inverted residual blocks, after its size has been applied.
pub(crate) struct InvertedResidual {
    stem: usize,
    stages: Vec<Stage>,
    head: usize,
    dropout: f64,
    convention: Convention,
    halvings: u32,
}

impl MobilenetV2Preset {
    pub(crate) const KEYS: &str = "width, depth, convention, dropout";

    pub(crate) fn network(&self, input: Shape) -> Result<InvertedResidual, SpecError> {
        let size = self.size;
        size.check()?;
        let stages = MOBILENET_V2.map(|stage| Stage {
            channels: size.channels(stage.channels),
            repeats: size.repeats(stage.repeats),
            ..stage
        });
        let at_least_one = Size {
            width: size.width.max(1.0),
            ..size
        };
        Ok(InvertedResidual {
            stem: size.channels(STEM),
            stages: stages.into(),
            head: at_least_one.channels(HEAD),
            dropout: size.dropout,
            convention: self.convention,
            halvings: adapted_halvings(input),
        })
    }
}

impl EfficientnetLitePreset {
    pub(crate) const KEYS: &str = "width, depth, convention, dropout";
    pub(crate) const LITE0_KEYS: &str = "convention, dropout";

    pub(crate) fn network(&self, input: Shape) -> Result<InvertedResidual, SpecError> {
        let (size, halvings) = match self.scaling {
            Scaling::Lite0 { dropout } => {
                let size = Size {
                    width: 1.0,
                    depth: 1.0,
                    dropout,
                };
                (size, HALVINGS)
            }
            Scaling::Student(size) => (size, adapted_halvings(input)),
        };
        size.check()?;
        let mut stages = EFFICIENTNET.map(|stage| Stage {
            channels: size.channels(stage.channels),
            repeats: size.repeats(stage.repeats),
            ..stage
        });
        for end in [0, stages.len() - 1] {
            stages[end].repeats = EFFICIENTNET[end].repeats;
        }
        Ok(InvertedResidual {
            stem: STEM,
            stages: stages.into(),
            head: HEAD,
            dropout: size.dropout,
            convention: self.convention,
            halvings,
        })
    }
}

fn adapted_halvings(input: Shape) -> u32 {
    halvings_that_leave(4, input).min(HALVINGS)
}

impl InvertedResidual {
    pub(crate) fn layers(&self, classes: usize) -> Vec<LayerSpec> {
        // The first strided convolutions lose their stride.
        let mut skipped = HALVINGS - self.halvings;
        let mut adapted = |stride: usize| match stride {
            2 if skipped > 0 => {
                skipped -= 1;
                1
            }
            stride => stride,
        };
        let mut layers = self.conv_norm(self.stem, self.window(3, adapted(2)));
        layers.push(RELU6);
        let mut channels = self.stem;
        for stage in &self.stages {
            for block in 0..stage.repeats {
                let stride = if block == 0 { adapted(stage.stride) } else { 1 };
                let body = self.block(stage, channels, stride);
                if stride == 1 && channels == stage.channels {
                    layers.push(LayerSpec::Residual {
                        body,
                        shortcut: None,
                        activation: None,
                    });
                } else {
                    layers.extend(body);
                }
                channels = stage.channels;
            }
        }
        layers.extend(self.conv_norm(self.head, self.window(1, 1)));
        layers.push(RELU6);
        layers.extend(pooled_head(classes, self.dropout));
        layers
    }

    /// All blocks: the stage, the index in the stage, and whether the block begins with an expanding
    /// convolution.
    pub(crate) fn blocks(&self) -> impl Iterator<Item = (usize, usize, bool)> {
        let stages = self.stages.iter().enumerate();
        stages.flat_map(|(index, stage)| {
            (0..stage.repeats).map(move |block| (index, block, stage.expansion > 1))
        })
    }

    /// An expanding 1×1 convolution, a depthwise convolution and a 1×1 convolution without activation.
    fn block(&self, stage: &Stage, channels: usize, stride: usize) -> Vec<LayerSpec> {
        let mut body = Vec::new();
        if stage.expansion > 1 {
            body.extend(self.conv_norm(channels * stage.expansion, self.window(1, 1)));
            body.push(RELU6);
        }
        let depthwise = LayerSpec::DepthwiseConv {
            window: self.window(stage.kernel, stride),
            bias: false,
        };
        body.extend([depthwise, self.batch_norm(), RELU6]);
        body.extend(self.conv_norm(stage.channels, self.window(1, 1)));
        body
    }

    fn conv_norm(&self, channels: usize, window: Window) -> Vec<LayerSpec> {
        vec![super::blocks::conv(channels, window), self.batch_norm()]
    }

    fn batch_norm(&self) -> LayerSpec {
        let epsilon = match self.convention {
            Convention::Torch => BATCH_NORM_EPSILON,
            Convention::Tensorflow => 1e-3,
        };
        LayerSpec::BatchNorm { epsilon }
    }

    fn window(&self, kernel: usize, stride: usize) -> Window {
        match self.convention {
            Convention::Torch => Window::centred(kernel, stride),
            Convention::Tensorflow => Window {
                kernel,
                stride,
                padding: Padding::Same,
            },
        }
    }
}

const RELU6: LayerSpec = LayerSpec::Activation(Activation::Relu6);
