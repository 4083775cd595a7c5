//! The student's network.

use clap::ValueEnum;

/// Families of student networks; docs/networks.md describes them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "snake_case")]
pub(super) enum Student {
    /// Plain convolutions.
    Cnn,
    /// A residual network.
    Resnet,
    /// Inverted residual blocks (MobileNetV2); published weights fit --width 1.
    MobilenetV2,
    /// Inverted residual blocks (EfficientNet-Lite); published weights fit --width 1.
    EfficientnetLite,
    /// Fully connected layers, for rows of numbers.
    Mlp,
    /// ResNet-18 as published.
    Resnet18,
    /// ResNet-34 as published.
    Resnet34,
    /// ResNet-50 as published.
    Resnet50,
    /// EfficientNet-Lite0 as published.
    EfficientnetLite0,
    /// VGG-16 with batch-norm as published.
    Vgg16Bn,
}

impl Student {
    /// The preset in a configuration.
    pub(super) fn preset(self) -> String {
        // Holds: no variant is skipped.
        let value = self.to_possible_value().expect("every family has a name");
        value.get_name().to_owned()
    }

    /// Whether channels and blocks can be multiplied.
    pub(super) fn has_sizes(self) -> bool {
        match self {
            Self::Cnn | Self::Resnet | Self::MobilenetV2 | Self::EfficientnetLite | Self::Mlp => {
                true
            }
            Self::Resnet18
            | Self::Resnet34
            | Self::Resnet50
            | Self::EfficientnetLite0
            | Self::Vgg16Bn => false,
        }
    }
}
