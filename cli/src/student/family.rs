//! Families of students with a size dial; docs/networks.md describes them.

use networks::{
    Architecture, Convention, EfficientnetLitePreset, MobilenetV2Preset, Scaling, Shape, Size,
};

/// A preset with `width` and `depth`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Family {
    Cnn,
    Resnet,
    MobilenetV2,
    EfficientnetLite,
    Mlp,
}

/// Families for images.
const IMAGES: &[Family] = &[
    Family::Cnn,
    Family::Resnet,
    Family::MobilenetV2,
    Family::EfficientnetLite,
];
/// Families for rows of numbers.
const ROWS: &[Family] = &[Family::Mlp];

impl Family {
    /// The families that take samples of this shape.
    pub(super) fn of_input(input: Shape) -> &'static [Self] {
        match input {
            Shape::Image { .. } => IMAGES,
            Shape::Vector { .. } => ROWS,
        }
    }

    /// The preset's name.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Cnn => "cnn",
            Self::Resnet => "resnet",
            Self::MobilenetV2 => "mobilenet_v2",
            Self::EfficientnetLite => "efficientnet_lite",
            Self::Mlp => "mlp",
        }
    }

    /// Depths that are worth a comparison: the base networks of the inverted residuals are deep already.
    pub(super) fn depths(self) -> &'static [f64] {
        match self {
            Self::Cnn | Self::Resnet | Self::Mlp => &[1.0, 2.0, 3.0],
            Self::MobilenetV2 | Self::EfficientnetLite => &[0.5, 1.0],
        }
    }

    pub(super) fn architecture(self, width: f64, depth: f64) -> Architecture {
        let size = Size {
            width,
            depth,
            dropout: 0.0,
        };
        match self {
            Self::Cnn => Architecture::SizedCnn(size),
            Self::Resnet => Architecture::SizedResnet(size),
            Self::Mlp => Architecture::SizedMlp(size),
            Self::MobilenetV2 => Architecture::MobilenetV2(MobilenetV2Preset {
                size,
                convention: Convention::Torch,
            }),
            Self::EfficientnetLite => Architecture::EfficientnetLite(EfficientnetLitePreset {
                scaling: Scaling::Student(size),
                convention: Convention::Tensorflow,
            }),
        }
    }
}
