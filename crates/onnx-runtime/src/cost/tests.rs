use networks::{
    NetworkSpec, Weights,
    onnx::schema::{AttributeProto, DataType, ModelProto, TensorProto},
};
use prost::Message;

use super::*;

const BATCH: usize = 4;

fn ints(name: &str, ints: &[i64]) -> AttributeProto {
    AttributeProto {
        name: Some(name.into()),
        ints: ints.to_vec(),
        ..AttributeProto::default()
    }
}

fn int(name: &str, value: i64) -> AttributeProto {
    AttributeProto {
        name: Some(name.into()),
        i: Some(value),
        ..AttributeProto::default()
    }
}

fn constant(name: &str, dims: &[i64]) -> TensorProto {
    let values = dims.iter().product::<i64>() as usize;
    TensorProto {
        name: Some(name.into()),
        dims: dims.to_vec(),
        data_type: Some(DataType::Float as i32),
        float_data: vec![0.0; values],
        ..TensorProto::default()
    }
}

fn integers(name: &str, values: &[i64]) -> TensorProto {
    TensorProto {
        name: Some(name.into()),
        dims: vec![values.len() as i64],
        data_type: Some(DataType::Int64 as i32),
        int64_data: values.to_vec(),
        ..TensorProto::default()
    }
}

fn node(operator: &str, inputs: &[&str], attributes: &[AttributeProto]) -> NodeProto {
    NodeProto {
        op_type: Some(operator.into()),
        input: inputs.iter().map(|name| (*name).to_owned()).collect(),
        output: vec!["out".into()],
        attribute: attributes.to_vec(),
        ..NodeProto::default()
    }
}

/// The output shape of one node for `input` [4, 2, 6, 8].
fn shape_of(node: &NodeProto, constants: &[TensorProto]) -> Result<Shape, String> {
    let graph = GraphProto {
        initializer: constants.to_vec(),
        ..GraphProto::default()
    };
    let live = BTreeMap::from([("input", vec![4, 2, 6, 8])]);
    infer(node, &live, &Constants::of(&graph)?).map(|step| step.output)
}

#[test]
fn operators_have_the_shapes_of_the_onnx_specification() {
    let cases: [(NodeProto, &[TensorProto], &[u64]); 18] = [
        (node("Relu", &["input"], &[]), &[], &[4, 2, 6, 8]),
        (
            node("Add", &["input", "w"], &[]),
            &[constant("w", &[3, 1, 2, 1, 8])],
            &[3, 4, 2, 6, 8],
        ),
        (
            node(
                "Conv",
                &["input", "w"],
                &[ints("strides", &[2, 2]), ints("pads", &[1, 1, 1, 1])],
            ),
            &[constant("w", &[5, 2, 3, 3])],
            &[4, 5, 3, 4],
        ),
        (
            node(
                "Conv",
                &["input", "w"],
                &[int("group", 2), ints("dilations", &[2, 2])],
            ),
            &[constant("w", &[4, 1, 3, 3])],
            &[4, 4, 2, 4],
        ),
        (
            node(
                "MaxPool",
                &["input"],
                &[
                    ints("kernel_shape", &[4, 3]),
                    ints("strides", &[3, 3]),
                    int("ceil_mode", 1),
                ],
            ),
            &[],
            &[4, 2, 2, 3],
        ),
        (
            node("GlobalAveragePool", &["input"], &[]),
            &[],
            &[4, 2, 1, 1],
        ),
        (node("Flatten", &["input"], &[]), &[], &[4, 96]),
        (
            node("Flatten", &["input"], &[int("axis", -1)]),
            &[],
            &[48, 8],
        ),
        (
            node("Gemm", &["a", "w"], &[int("transB", 1)]),
            &[constant("a", &[4, 7]), constant("w", &[3, 7])],
            &[4, 3],
        ),
        (
            node("MatMul", &["input", "w"], &[]),
            &[constant("w", &[8, 9])],
            &[4, 2, 6, 9],
        ),
        (
            node("Reshape", &["input", "to"], &[]),
            &[integers("to", &[0, -1, 3])],
            &[4, 32, 3],
        ),
        (
            node("Transpose", &["input"], &[ints("perm", &[0, 3, 1, 2])]),
            &[],
            &[4, 8, 2, 6],
        ),
        (node("Transpose", &["input"], &[]), &[], &[8, 6, 2, 4]),
        (
            node("Squeeze", &["w", "axes"], &[]),
            &[constant("w", &[1, 3, 1]), integers("axes", &[-1])],
            &[1, 3],
        ),
        (
            node("Unsqueeze", &["input"], &[ints("axes", &[0, 5])]),
            &[],
            &[1, 4, 2, 6, 8, 1],
        ),
        (
            node(
                "ReduceMean",
                &["input"],
                &[ints("axes", &[2, 3]), int("keepdims", 0)],
            ),
            &[],
            &[4, 2],
        ),
        (
            node("ReduceMean", &["input"], &[ints("axes", &[1])]),
            &[],
            &[4, 1, 6, 8],
        ),
        (node("Softmax", &["input"], &[]), &[], &[4, 2, 6, 8]),
    ];
    for (node, constants, expected) in cases {
        let found = shape_of(&node, constants);
        assert_eq!(found.as_deref(), Ok(expected), "{}", node.op_type());
    }
}

#[test]
fn mismatched_shapes_are_errors_and_not_panics() {
    let cases: [(NodeProto, &[TensorProto], &str); 15] = [
        (node("Relu", &[], &[]), &[], "no earlier node produces"),
        (node("Relu", &["later"], &[]), &[], "`later`"),
        (
            node("Add", &["input", "w"], &[]),
            &[constant("w", &[3])],
            "cannot be broadcast",
        ),
        (
            node("Conv", &["input", "w"], &[]),
            &[constant("w", &[5, 3, 3, 3])],
            "weight [5, 3, 3, 3] does not match",
        ),
        (
            node("Conv", &["input", "w"], &[ints("strides", &[0, 1])]),
            &[constant("w", &[5, 2, 3, 3])],
            "1 or more",
        ),
        (
            node("Conv", &["input", "w"], &[ints("pads", &[0])]),
            &[constant("w", &[5, 2, 3, 3])],
            "`pads` must have 4 values",
        ),
        (
            node("Conv", &["input", "w"], &[]),
            &[constant("w", &[5, 2, 7, 3])],
            "larger than its input",
        ),
        (node("MaxPool", &["input"], &[]), &[], "kernel_shape"),
        (
            node("Reshape", &["input", "input"], &[]),
            &[],
            "not a constant",
        ),
        (
            node("Reshape", &["input", "to"], &[]),
            &[integers("to", &[0, 0, 0, 0, 0])],
            "to [0, 0, 0, 0, 0]",
        ),
        (
            node("Reshape", &["input", "to"], &[]),
            &[integers("to", &[-1, -1])],
            "to [-1, -1]",
        ),
        (
            node("Transpose", &["input"], &[ints("perm", &[0, 0, 1, 2])]),
            &[],
            "not a permutation",
        ),
        (
            node("Squeeze", &["input"], &[ints("axes", &[0])]),
            &[],
            "do not have size 1",
        ),
        (
            node("Unsqueeze", &["input"], &[ints("axes", &[1, 1])]),
            &[],
            "contain duplicates",
        ),
        (
            node("Gemm", &["input", "input"], &[]),
            &[],
            "cannot multiply [4, 2, 6, 8]",
        ),
    ];
    for (node, constants, problem) in cases {
        let error = shape_of(&node, constants).expect_err(problem);
        assert!(error.contains(problem), "{problem}: {error}");
    }
}

#[test]
fn a_constant_must_have_the_size_of_its_shape() {
    let mut huge = constant("w", &[1]);
    huge.dims = vec![1 << 40, 1 << 40];
    let error = shape_of(&node("Relu", &["w"], &[]), &[huge.clone()]).unwrap_err();
    assert!(error.contains("constant `w` holds fewer values"), "{error}");
    huge.dims = vec![-1];
    let error = shape_of(&node("Relu", &["w"], &[]), &[huge]).unwrap_err();
    assert!(error.contains("negative"), "{error}");
}

#[test]
fn the_cost_of_an_exported_network_scales_with_the_batch() {
    let spec = NetworkSpec::from_toml(
        r#"
        input = [1, 8, 8]
        classes = 3
        preset = "resnet"
        widths = [4, 8]
        "#,
    )
    .unwrap();
    let weights = Weights::initial(&spec, 1).unwrap();
    let onnx = networks::onnx::export(&spec, &weights).unwrap();
    let graph = ModelProto::decode(onnx.as_slice()).unwrap().graph.unwrap();
    let interface = ModelInterface {
        sample: vec![1, 8, 8],
        classes: 3,
    };
    let one = measure(&graph, &interface, 1).unwrap();
    let four = measure(&graph, &interface, BATCH).unwrap();
    assert_eq!(four.operations, one.operations * BATCH as u64);
    assert!(four.values > one.values && four.values <= one.values * BATCH as u64);
    let multiply_adds = networks::cost(&spec).unwrap().multiply_adds;
    assert!(one.operations >= multiply_adds, "{one:?} {multiply_adds}");
    assert!(
        one.operations < multiply_adds * 2,
        "{one:?} {multiply_adds}"
    );

    let other = ModelInterface {
        classes: 4,
        ..interface
    };
    let error = measure(&graph, &other, BATCH).unwrap_err();
    assert!(
        error.problem.contains("[4, 3], expected [4, 4]"),
        "{error:?}"
    );
}
