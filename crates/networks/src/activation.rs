//! Activation functions.

use std::fmt;

use serde::{Deserialize, Serialize};

/// An activation function; it acts on each value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Activation {
    /// max(x, 0).
    Relu,
    /// min(max(x, 0), 6), Sandler et al. 2018.
    Relu6,
    /// x · sigmoid(x), also called swish (Ramachandran et al. 2017).
    Silu,
    /// x · relu6(x + 3) / 6, Howard et al. 2019.
    HardSwish,
    /// 1 / (1 + e⁻ˣ).
    Sigmoid,
}

impl Activation {
    /// The name in a spec.
    pub fn name(self) -> &'static str {
        match self {
            Activation::Relu => "relu",
            Activation::Relu6 => "relu6",
            Activation::Silu => "silu",
            Activation::HardSwish => "hard_swish",
            Activation::Sigmoid => "sigmoid",
        }
    }
}

impl fmt::Display for Activation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
