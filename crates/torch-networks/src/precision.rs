//! The number format in which layers compute.

use std::fmt;

use common::compute::PrecisionChoice;
use serde::{Deserialize, Serialize};
use tch::Device;

use crate::InstructionSet;

/// The compute capability from which GPUs multiply bf16 numbers natively: that of Ampere.
const FIRST_CAPABILITY_WITH_BF16: (i32, i32) = (8, 0);

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

impl Precision {
    /// Resolves a configured precision for this processor and the limits in the environment.
    pub fn on_cpu(choice: PrecisionChoice) -> Self {
        match choice {
            PrecisionChoice::F32 => Self::F32,
            PrecisionChoice::Bf16 => Self::Bf16,
            PrecisionChoice::Auto if InstructionSet::current().has_bf16() => Self::Bf16,
            PrecisionChoice::Auto => Self::F32,
        }
    }

    /// Resolves a configured precision for a device; `Auto` is bf16 if the device multiplies it natively.
    pub fn on(device: Device, choice: PrecisionChoice) -> Self {
        match (choice, device) {
            (PrecisionChoice::Auto, Device::Cuda(index)) => {
                let device = torch_cuda::device(index);
                match device.map(|device| device.capability >= FIRST_CAPABILITY_WITH_BF16) {
                    Some(true) => Self::Bf16,
                    Some(false) | None => Self::F32,
                }
            }
            (choice, _) => Self::on_cpu(choice),
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
