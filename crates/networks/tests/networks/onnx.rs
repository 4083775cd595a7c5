//! Reads the files of the ONNX writer.

use networks::{
    NetworkSpec, Weights, onnx,
    onnx::schema::{DimensionValue, ModelProto, TypeValue},
};
use prost::Message;

#[test]
fn a_vector_is_an_input_of_two_dimensions() {
    let spec = "input = [12]\nclasses = 3\npreset = 'mlp'\nwidths = [4]";
    let spec = NetworkSpec::from_toml(spec).unwrap();
    let bytes = onnx::export(&spec, &Weights::initial(&spec, 3).unwrap()).unwrap();
    let graph = ModelProto::decode(bytes.as_slice()).unwrap().graph.unwrap();
    let Some(TypeValue::Tensor(tensor)) = graph.input[0].r#type.clone().unwrap().value else {
        panic!("{:?}", graph.input);
    };
    let dimensions = tensor.shape.unwrap().dim.into_iter();
    let dimensions: Vec<_> = dimensions.filter_map(|dimension| dimension.value).collect();
    assert_eq!(
        dimensions,
        [
            DimensionValue::Param("batch".to_owned()),
            DimensionValue::Value(12)
        ]
    );
    let operators = graph.node.iter().filter_map(|node| node.op_type.as_deref());
    assert_eq!(operators.collect::<Vec<_>>(), ["Gemm", "Relu", "Gemm"]);
}

#[test]
fn rows_are_standardized_in_the_graph() {
    let spec = "input = [2]\nclasses = 3\npreset = 'mlp'\nwidths = [4]";
    let spec = NetworkSpec::from_toml(spec).unwrap();
    let weights = Weights::initial(&spec, 3).unwrap();
    let standardization = onnx::Standardization {
        mean: &[0.5, -1.0],
        std: &[2.0, 4.0],
    };
    let bytes = onnx::export_standardized(&spec, &weights, standardization).unwrap();
    let graph = ModelProto::decode(bytes.as_slice()).unwrap().graph.unwrap();
    let operators = graph.node.iter().filter_map(|node| node.op_type.as_deref());
    let expected = ["Sub", "Div", "Gemm", "Relu", "Gemm"];
    assert_eq!(operators.collect::<Vec<_>>(), expected);
    assert_eq!(graph.node[0].input, [onnx::INPUT, "standardize.mean"]);
    assert_eq!(graph.node[1].output, [onnx::STANDARDIZED_INPUT]);
    assert_eq!(graph.node[2].output, [onnx::output_tensor("layers.0")]);
    let std = graph.initializer.last().unwrap();
    assert_eq!(
        (std.name(), &std.dims[..]),
        ("standardize.std", &[2_i64][..])
    );
    let values = [2.0_f32, 4.0].map(f32::to_le_bytes).concat();
    assert_eq!(std.raw_data.as_deref(), Some(&values[..]));
}

#[test]
fn repeated_exports_of_every_layer_are_identical() {
    let spec = NetworkSpec::from_toml(include_str!("specs/every-layer.toml")).unwrap();
    let weights = Weights::initial(&spec, 3).unwrap();
    let bytes = onnx::export(&spec, &weights).unwrap();
    assert_eq!(bytes, onnx::export(&spec, &weights).unwrap());

    let model = ModelProto::decode(bytes.as_slice()).unwrap();
    assert_eq!(model.ir_version, Some(onnx::IR_VERSION));
    assert_eq!(model.opset_import[0].version, Some(onnx::OPSET_VERSION));
    let graph = model.graph.unwrap();
    let operators: Vec<_> = graph
        .node
        .iter()
        .filter_map(|node| node.op_type.as_deref())
        .collect();
    assert_eq!(
        operators,
        [
            "Conv",
            "Relu",
            "MaxPool",
            "Conv",
            "Conv",
            "Add",
            "Relu",
            "Conv",
            "Relu",
            "Conv",
            "Conv",
            "Add",
            "Relu",
            "AveragePool",
            "GlobalAveragePool",
            "Flatten",
            "Gemm",
            "Gemm"
        ]
    );
    assert_eq!(graph.node.last().unwrap().output, ["logits"]);

    let mut known: Vec<_> = graph
        .initializer
        .iter()
        .filter_map(|tensor| tensor.name.clone())
        .collect();
    known.push("input".to_owned());
    for node in &graph.node {
        for input in &node.input {
            assert!(known.contains(input), "{input} is used before it is made");
        }
        known.extend(node.output.clone());
    }
}
