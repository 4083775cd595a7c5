//! The number format in which layers compute.

use std::fmt;

use serde::{Deserialize, Serialize};
use tch::Device;

use crate::InstructionSet;

/// The precision in a configuration.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PrecisionChoice {
    /// bf16 if the processor multiplies it natively, otherwise f32.
    #[default]
    Auto,
    /// Always f32.
    F32,
    /// Always bf16, even if the processor only emulates it.
    Bf16,
}

/// The number format in which layers compute.
///
/// With [`Precision::Bf16`] the inputs and (f32 master) weights of convolutions and hidden linear
/// layers are rounded to bf16, and activations between layers are bf16. Parameters, gradients,
/// batch-norm's statistics, global pooling, the last linear layer and the logits stay f32.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// 32-bit IEEE floats throughout.
    F32,
    /// bfloat16, as described above.
    Bf16,
}

impl PrecisionChoice {
    /// Resolves the choice for this processor and the limits in the environment.
    pub fn resolve(self) -> Precision {
        match self {
            PrecisionChoice::F32 => Precision::F32,
            PrecisionChoice::Bf16 => Precision::Bf16,
            PrecisionChoice::Auto if InstructionSet::current().has_bf16() => Precision::Bf16,
            PrecisionChoice::Auto => Precision::F32,
        }
    }

    /// Resolves the choice for a device; on a GPU `Auto` is f32.
    pub fn resolve_on(self, device: Device) -> Precision {
        match (self, device) {
            (PrecisionChoice::Auto, Device::Cuda(_)) => Precision::F32,
            (choice, _) => choice.resolve(),
        }
    }
}

impl fmt::Display for Precision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Precision::F32 => "f32",
            Precision::Bf16 => "bf16",
        })
    }
}
