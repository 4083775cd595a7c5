//! VGG networks.

use super::{
    blocks::{batch_norm, dropout, linear, relu},
    checks::check_dropout,
};
use crate::{LayerSpec, Padding, Shape, SpecError, Window};

/// VGG-16 with batch-norm in torchvision's layout (Simonyan and Zisserman 2015, configuration D).
///
/// For images whose height and width are the same multiple of 224, the layers are torchvision's. For
/// other sizes, torchvision resizes the last 512 channels to 7×7; here the first linear layer takes
/// them as they are. The image needs at least 32 rows and columns.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Vgg16BnPreset {
    /// Dropout after each of the two hidden linear layers; default 0.
    pub dropout: f64,
}

impl Vgg16BnPreset {
    pub(crate) const KEYS: &str = "dropout";
    /// Channels of the convolutions in each stage.
    pub(crate) const STAGES: [&[usize]; 5] = [
        &[64, 64],
        &[128, 128],
        &[256, 256, 256],
        &[512, 512, 512],
        &[512, 512, 512],
    ];

    pub(crate) fn layers(&self, input: Shape, classes: usize) -> Result<Vec<LayerSpec>, SpecError> {
        check_dropout(self.dropout)?;
        let pool = |kernel| Window {
            kernel,
            stride: kernel,
            padding: Padding::Each(0),
        };
        let mut layers = Vec::new();
        for stage in Self::STAGES {
            for &channels in stage {
                let conv = LayerSpec::Conv {
                    channels,
                    window: Window::centred(3, 1),
                    groups: 1,
                    bias: true,
                };
                layers.extend([conv, batch_norm(), relu()]);
            }
            layers.push(LayerSpec::MaxPool(pool(2)));
        }
        if let Some(factor) = multiple_of_224(input) {
            layers.push(LayerSpec::AvgPool(pool(factor)));
        }
        layers.push(LayerSpec::Flatten);
        for _ in 0..2 {
            layers.extend([linear(4096), relu()]);
            layers.extend(dropout(self.dropout));
        }
        layers.push(linear(classes));
        Ok(layers)
    }
}

/// The factor by which a square image is larger than 224×224, if it is a whole number above 1.
fn multiple_of_224(input: Shape) -> Option<usize> {
    match input {
        Shape::Image { height, width, .. } if height == width && height % 224 == 0 => {
            Some(height / 224).filter(|&factor| factor > 1)
        }
        _ => None,
    }
}
