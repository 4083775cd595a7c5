//! What a model takes and gives.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{DataType, Dimensions};

/// The named inputs and outputs of a model, in its own order.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Signature {
    /// What the model takes.
    pub inputs: Vec<TensorSpec>,
    /// What the model gives.
    pub outputs: Vec<TensorSpec>,
}

/// Name, data type and dimensions of one input or output.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TensorSpec {
    /// Unique among the inputs, and among the outputs.
    pub name: String,
    /// Type of the values.
    pub data_type: DataType,
    /// Outermost first.
    pub dimensions: Dimensions,
}

impl Signature {
    /// The input called `name`.
    pub fn input(&self, name: &str) -> Option<&TensorSpec> {
        self.inputs.iter().find(|input| input.name == name)
    }

    /// The output called `name`.
    pub fn output(&self, name: &str) -> Option<&TensorSpec> {
        self.outputs.iter().find(|output| output.name == name)
    }
}

impl TensorSpec {
    /// A batch of samples of a fixed `shape`.
    pub fn batch_of(name: impl Into<String>, data_type: DataType, shape: &[usize]) -> Self {
        Self {
            name: name.into(),
            data_type,
            dimensions: Dimensions::batch_of(shape),
        }
    }
}

impl fmt::Display for TensorSpec {
    /// For example ``` `input` FP32 [batch, 3, 224, 224] ```.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            name,
            data_type,
            dimensions,
        } = self;
        write!(formatter, "`{name}` {data_type} {dimensions}")
    }
}

impl fmt::Display for Signature {
    /// For example ``` `input` FP32 [batch, 1, 28, 28] -> `logits` FP32 [batch, 10] ```.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |tensors: &[TensorSpec]| -> String {
            let texts: Vec<_> = tensors.iter().map(ToString::to_string).collect();
            texts.join(", ")
        };
        let (inputs, outputs) = (list(&self.inputs), list(&self.outputs));
        write!(formatter, "{inputs} -> {outputs}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tensors_are_found_by_name_and_shown_as_in_onnx() {
        let signature = Signature {
            inputs: vec![TensorSpec::batch_of("input", DataType::Fp32, &[1, 28, 28])],
            outputs: vec![TensorSpec::batch_of("logits", DataType::Fp32, &[10])],
        };
        assert!(signature.input("input").is_some() && signature.input("logits").is_none());
        assert!(signature.output("logits").is_some());
        assert_eq!(
            signature.to_string(),
            "`input` FP32 [batch, 1, 28, 28] -> `logits` FP32 [batch, 10]"
        );
        let json = serde_json::to_value(&signature).unwrap();
        assert_eq!(json["inputs"][0]["dimensions"][0], "batch");
        assert_eq!(
            serde_json::from_value::<Signature>(json).unwrap(),
            signature
        );
    }
}
