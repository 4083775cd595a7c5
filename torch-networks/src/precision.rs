//! Which number format layers compute in.

use std::fmt;

use serde::{Deserialize, Serialize};
use tch::Device;

use crate::InstructionSet;

/// What a config asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PrecisionChoice {
    /// bf16 where the processor multiplies it natively, else f32.
    #[default]
    Auto,
    /// Always f32.
    F32,
    /// Always bf16, even where the processor only emulates it.
    Bf16,
}

/// What layers compute in.
///
/// With [`Precision::Bf16`] the inputs and (f32 master) weights of convolutions and hidden linear
/// layers are rounded to bf16, and what flows between layers is bf16. Parameters, gradients,
/// batch-norm's statistics, global pooling, the last linear layer and the logits stay f32.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// 32-bit IEEE floats throughout.
    F32,
    /// bfloat16 inside, as above.
    Bf16,
}

impl PrecisionChoice {
    /// Settles the choice for this processor (and the caps in the environment).
    pub fn resolve(self) -> Precision {
        match self {
            PrecisionChoice::F32 => Precision::F32,
            PrecisionChoice::Bf16 => Precision::Bf16,
            PrecisionChoice::Auto if InstructionSet::current().has_bf16() => Precision::Bf16,
            PrecisionChoice::Auto => Precision::F32,
        }
    }

    /// Settles the choice for a device; on a GPU `Auto` is f32.
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
