//! The families of names under which weights are published.

use std::fmt;

/// The library that a file's names come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Naming {
    /// torchvision; timm's residual networks have the same names.
    Torchvision,
    /// timm (PyTorch Image Models).
    Timm,
    /// Hugging Face's transformers.
    HuggingFace,
    /// The Python packages `efficientnet-pytorch` and `efficientnet-lite-pytorch`.
    EfficientnetPytorch,
    /// Retort: the weights of an artifact.
    Retort,
}

impl fmt::Display for Naming {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Naming::Torchvision => "torchvision's names",
            Naming::Timm => "timm's names",
            Naming::HuggingFace => "Hugging Face's names",
            Naming::EfficientnetPytorch => "efficientnet-pytorch's names",
            Naming::Retort => "Retort's names",
        })
    }
}
