//! What a model's file says about itself.

use std::collections::BTreeMap;

use serde::Serialize;

/// What a model's file says about itself besides its inputs and outputs; all that it does not say is empty.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct ModelFacts {
    /// The program that wrote the file.
    pub producer: Option<String>,
    /// Number of trained values.
    pub parameters: Option<u64>,
    /// Version of the operator set of each domain; the empty name is ONNX's standard domain.
    pub opsets: BTreeMap<String, u64>,
    /// How often each operator is used.
    pub operators: BTreeMap<String, usize>,
    /// The operators that a model published to the inference service may not have.
    pub unpublishable: Vec<String>,
    /// Outputs that are no tensors, with their types.
    pub unusable_outputs: Vec<String>,
}

#[cfg(feature = "onnx")]
impl From<&onnx_runtime::ModelSummary> for ModelFacts {
    fn from(summary: &onnx_runtime::ModelSummary) -> Self {
        let unpublishable = summary.unpublishable_operators();
        Self {
            producer: Some(summary.producer.clone()).filter(|producer| !producer.is_empty()),
            parameters: Some(summary.parameters),
            opsets: summary.opsets.clone(),
            unpublishable: unpublishable.map(str::to_owned).collect(),
            operators: summary.operators.clone(),
            unusable_outputs: Vec::new(),
        }
    }
}
