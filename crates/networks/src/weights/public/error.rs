//! Errors of published weights.

use std::fmt;

use super::Naming;
use crate::{SpecError, WeightsError};

/// Why a published file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PublicWeightsError {
    /// The network itself is invalid.
    #[error(transparent)]
    Spec(#[from] SpecError),
    /// There are no published weights for the network, and the file is not Retort's own either.
    #[error(
        "the file has none of the network's tensors under Retort's names, and published weights fit the \
         presets resnet18, resnet34, resnet50, mobilenet_v2, efficientnet_lite, efficientnet_lite0 and \
         vgg16_bn only"
    )]
    UnknownNetwork,
    /// The file is a pickle, which could run any code when it is read.
    #[error(
        "this is a file of torch.save (.pth, .pt, .bin), not safetensors; convert it with: {CONVERSION}"
    )]
    Pickle,
    /// The file is no safetensors file, or a value is not finite.
    #[error(transparent)]
    Weights(#[from] WeightsError),
    /// A tensor holds no floating-point numbers.
    #[error("tensor `{name}` has dtype {found}; supported are F32, F16, BF16 and F64")]
    Dtype {
        /// The tensor's public name.
        name: String,
        /// Its dtype.
        found: String,
    },
    /// The file was trained with the other convention.
    #[error(
        "weights with {0} were trained with TensorFlow's padding and epsilon; set convention = \
         \"tensorflow\" in the network"
    )]
    Convention(Naming),
    /// The tensors are not those of the network.
    #[error(transparent)]
    Misfit(Box<Misfit>),
}

/// The command that converts a pickle.
const CONVERSION: &str = "python3 -c \"import torch; from safetensors.torch import save_file; \
     save_file({name: tensor.contiguous() for name, tensor in torch.load('model.pth', \
     map_location='cpu', weights_only=True).items()}, 'model.safetensors')\"";

/// All differences between a file and a network, under the file's names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Misfit {
    /// The names that fit the file best.
    pub naming: Naming,
    /// Tensors that the file lacks.
    pub missing: Vec<String>,
    /// Tensors of the file that the network does not have.
    pub unexpected: Vec<String>,
    /// Tensors of another shape.
    pub misshaped: Vec<MisshapedTensor>,
}

/// A tensor whose shape differs from the network's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MisshapedTensor {
    /// The tensor's public name.
    pub name: String,
    /// Its shape in the file.
    pub found: Vec<usize>,
    /// The shape that the network requires.
    pub expected: Vec<usize>,
}

impl Misfit {
    pub(super) fn new(naming: Naming) -> Self {
        Misfit {
            naming,
            missing: Vec::new(),
            unexpected: Vec::new(),
            misshaped: Vec::new(),
        }
    }

    /// Returns an error if there are differences.
    pub(super) fn none(self) -> Result<(), PublicWeightsError> {
        if self.missing.is_empty() && self.unexpected.is_empty() && self.misshaped.is_empty() {
            return Ok(());
        }
        Err(PublicWeightsError::Misfit(Box::new(self)))
    }
}

impl std::error::Error for Misfit {}

impl fmt::Display for Misfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the file does not fit the network with {}", self.naming)?;
        let misshaped: Vec<_> = self.misshaped.iter().map(ToString::to_string).collect();
        for (what, names) in [
            ("missing", &self.missing),
            ("unexpected", &self.unexpected),
            ("of another shape", &misshaped),
        ] {
            list(f, what, names)?;
        }
        Ok(())
    }
}

/// Writes the first names and the number of the others.
fn list(f: &mut fmt::Formatter<'_>, what: &str, names: &[String]) -> fmt::Result {
    const SHOWN: usize = 5;
    const LONGEST: usize = 100;
    if names.is_empty() {
        return Ok(());
    }
    let shown = names.iter().take(SHOWN);
    let shown: Vec<String> = shown
        .map(|name| name.chars().take(LONGEST).collect())
        .collect();
    write!(f, "; {what}: {}", shown.join(", "))?;
    match names.len() - shown.len() {
        0 => Ok(()),
        others => write!(f, " and {others} more"),
    }
}

impl fmt::Display for MisshapedTensor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let MisshapedTensor {
            name,
            found,
            expected,
        } = self;
        write!(f, "{name} {found:?} (the network requires {expected:?})")
    }
}
