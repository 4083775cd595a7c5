//! The operators that a served model may use.

/// Operators of the standard ONNX domain, in alphabetical order. The sizes of their inputs bound
/// their cost: none contains a subgraph, loops, or has an output whose size depends on input values.
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
    fn the_list_is_sorted_for_binary_search() {
        assert!(ALLOWED.is_sorted());
    }

    #[test]
    fn the_check_uses_domain_and_operator() {
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
