//! The operators that a served model may use.

/// Operators of the standard ONNX domain whose cost is bounded by the sizes of their inputs, in
/// alphabetical order. None of them holds a subgraph, loops, or makes a tensor of a size that only
/// its values decide.
const ALLOWED: [&str; 34] = [
    "Add",
    "AveragePool",
    "BatchNormalization",
    "Clip",
    "Constant",
    "Conv",
    "DequantizeLinear",
    "Div",
    "Dropout",
    "Elu",
    "Flatten",
    "Gemm",
    "GlobalAveragePool",
    "GlobalMaxPool",
    "HardSigmoid",
    "HardSwish",
    "Identity",
    "LeakyRelu",
    "LogSoftmax",
    "MatMul",
    "MaxPool",
    "Mul",
    "PRelu",
    "QuantizeLinear",
    "ReduceMean",
    "Relu",
    "Reshape",
    "Sigmoid",
    "Softmax",
    "Squeeze",
    "Sub",
    "Tanh",
    "Transpose",
    "Unsqueeze",
];

/// Whether a node with this domain and operator may run.
pub(crate) fn is_allowed(domain: &str, operator: &str) -> bool {
    matches!(domain, "" | "ai.onnx") && ALLOWED.binary_search(&operator).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_is_sorted_as_its_search_needs() {
        assert!(ALLOWED.is_sorted());
    }

    #[test]
    fn domain_and_operator_both_count() {
        assert!(is_allowed("", "Conv") && is_allowed("ai.onnx", "Gemm"));
        for (domain, operator) in [
            ("", "Loop"),
            ("", "conv"),
            ("com.microsoft", "Conv"),
            ("", ""),
        ] {
            assert!(!is_allowed(domain, operator), "{domain}:{operator}");
        }
    }
}
