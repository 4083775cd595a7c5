use networks::{
    NetworkSpec, Weights,
    onnx::schema::{
        Dimension, FunctionProto, SparseTensorProto, StringStringEntryProto, TensorShapeProto,
        TrainingInfoProto,
    },
};

use super::*;

/// A small network as Retort exports it.
fn exported() -> ModelProto {
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
    ModelProto::decode(onnx.as_slice()).unwrap()
}

fn check(model: &ModelProto) -> Result<ModelInterface, ModelError> {
    check_model(&model.encode_to_vec(), &Limits::default()).map(|checked| checked.interface)
}

/// Applies one change to the exported network and returns the error message.
fn refusal(change: impl FnOnce(&mut ModelProto, &mut GraphProto)) -> String {
    let mut model = exported();
    let mut graph = model.graph.take().unwrap();
    change(&mut model, &mut graph);
    model.graph = Some(graph);
    check(&model).expect_err("the model is refused").to_string()
}

fn tensor_in_a_file() -> TensorProto {
    let location = StringStringEntryProto {
        key: Some("location".into()),
        value: Some("../../etc/passwd".into()),
    };
    TensorProto {
        external_data: vec![location],
        data_location: Some(DataLocation::External as i32),
        ..TensorProto::default()
    }
}

fn attribute_tensor(tensor: TensorProto) -> AttributeProto {
    AttributeProto {
        name: Some("value".into()),
        t: Some(tensor),
        ..AttributeProto::default()
    }
}

fn subgraph(node: NodeProto) -> AttributeProto {
    let graph = GraphProto {
        node: vec![node],
        ..GraphProto::default()
    };
    AttributeProto {
        g: Some(graph),
        ..AttributeProto::default()
    }
}

#[test]
fn an_exported_network_passes_and_its_interface_is_read() {
    let expected = ModelInterface {
        sample: vec![1, 8, 8],
        classes: 3,
    };
    assert_eq!(check(&exported()), Ok(expected));
}

#[test]
fn a_network_of_rows_passes_with_its_standardization() {
    let spec = "input = [3]\nclasses = 2\npreset = \"mlp\"\nwidths = [4]";
    let spec = NetworkSpec::from_toml(spec).unwrap();
    let standardization = networks::onnx::Standardization {
        mean: &[1.0, 0.0, -1.0],
        std: &[2.0; 3],
    };
    let weights = Weights::initial(&spec, 1).unwrap();
    let onnx = networks::onnx::export_standardized(&spec, &weights, standardization).unwrap();
    let expected = ModelInterface {
        sample: vec![3],
        classes: 2,
    };
    assert_eq!(
        check(&ModelProto::decode(onnx.as_slice()).unwrap()),
        Ok(expected)
    );
}

#[test]
fn errors_name_the_violation() {
    type Change = fn(&mut ModelProto, &mut GraphProto);
    let cases: [(Change, &str); 14] = [
        (
            |_, graph| graph.node[1].op_type = Some("Loop".into()),
            "node 1 (`",
        ),
        (
            |_, graph| graph.node[1].op_type = Some("Loop".into()),
            "operator `Loop`",
        ),
        (
            |_, graph| graph.node[0].domain = Some("com.evil".into()),
            "domain `com.evil`",
        ),
        (
            |model, _| model.functions.push(FunctionProto::default()),
            "functions",
        ),
        (
            |model, _| model.training_info.push(TrainingInfoProto::default()),
            "training graphs",
        ),
        (
            |_, graph| graph.initializer[0].external_data = tensor_in_a_file().external_data,
            "initializer `",
        ),
        (
            |_, graph| graph.initializer[0].data_location = Some(1),
            "external data",
        ),
        (
            |_, graph| {
                graph.node[0]
                    .attribute
                    .push(attribute_tensor(tensor_in_a_file()))
            },
            "external data",
        ),
        (
            |_, graph| graph.sparse_initializer.push(SparseTensorProto::default()),
            "sparse tensors",
        ),
        (
            |_, graph| graph.node[0].attribute.push(subgraph(NodeProto::default())),
            "node 0 (`",
        ),
        (
            |_, graph| {
                let hidden = NodeProto {
                    attribute: vec![attribute_tensor(tensor_in_a_file())],
                    ..NodeProto::default()
                };
                graph.node[0].attribute.push(subgraph(hidden));
            },
            "subgraphs",
        ),
        (
            |_, graph| {
                let mut nested = NodeProto::default();
                for _ in 0..1000 {
                    nested = NodeProto {
                        attribute: vec![subgraph(nested)],
                        ..NodeProto::default()
                    };
                }
                graph.node.push(nested);
            },
            "subgraphs",
        ),
        (
            |_, graph| {
                let pads = AttributeProto {
                    name: Some("pads".into()),
                    ints: vec![1, i64::MIN],
                    ..AttributeProto::default()
                };
                graph.node[0].attribute.push(pads);
            },
            "attribute `pads` is -9223372036854775808",
        ),
        (
            |_, graph| graph.node[0].op_type = Some("x".repeat(1_000_000)),
            "operator `xxx",
        ),
    ];
    for (change, named) in cases {
        let refusal = refusal(change);
        assert!(refusal.contains(named), "{named}: {refusal}");
        assert!(refusal.len() < 500, "{} bytes", refusal.len());
    }
}

#[test]
fn models_that_need_too_much_are_rejected() {
    let weight = |name: &str, dims: &[i64]| TensorProto {
        name: Some(name.into()),
        dims: dims.to_vec(),
        data_type: Some(DataType::Float as i32),
        raw_data: Some(vec![0; 4 * dims.iter().product::<i64>() as usize]),
        ..TensorProto::default()
    };
    let node = |operator: &str, inputs: [&str; 2], output: &str| NodeProto {
        op_type: Some(operator.into()),
        input: inputs.map(String::from).to_vec(),
        output: vec![output.into()],
        ..NodeProto::default()
    };
    // The sum of a column and a row of 100,000 values is a matrix of 40 GB.
    let table = refusal(|_, graph| {
        graph.initializer.push(weight("column", &[100_000, 1]));
        graph.initializer.push(weight("row", &[1, 100_000]));
        graph
            .node
            .insert(0, node("Add", ["column", "row"], "table"));
    });
    assert!(table.contains("bytes of memory; at most"), "{table}");
    // 4096 zeros on every side of an 8x8 image.
    let padded = refusal(|_, graph| {
        let pads = AttributeProto {
            name: Some("pads".into()),
            ints: vec![4096; 4],
            ..AttributeProto::default()
        };
        let mut conv = node("Conv", ["input", "one"], "padded");
        conv.attribute.push(pads);
        graph.initializer.push(weight("one", &[1, 1, 1, 1]));
        graph.node.insert(0, conv);
    });
    assert!(padded.contains("bytes of memory; at most"), "{padded}");
    // Little memory, but hours of computation.
    let slow = refusal(|_, graph| {
        graph.initializer.push(weight("square", &[2000, 2000]));
        let squares = (0..200).map(|_| node("MatMul", ["square", "square"], "power"));
        graph.node.splice(0..0, squares);
    });
    assert!(slow.contains("operations; at most"), "{slow}");
    let loose = refusal(|_, graph| graph.node[1].input[0] = "nowhere".into());
    assert!(
        loose.contains("node 1 (`") && loose.contains("`nowhere`"),
        "{loose}"
    );
}

#[test]
fn the_error_describes_another_interface() {
    fn type_of(value: &mut ValueInfoProto) -> &mut networks::onnx::schema::TensorTypeProto {
        match value.r#type.as_mut().and_then(|t| t.value.as_mut()) {
            Some(TypeValue::Tensor(tensor)) => tensor,
            _ => panic!("not a tensor"),
        }
    }
    fn shape_of(value: &mut ValueInfoProto) -> &mut TensorShapeProto {
        type_of(value).shape.as_mut().unwrap()
    }
    type Change = fn(&mut GraphProto);
    let cases: [(Change, &str); 8] = [
        (
            |graph| graph.input[0].name = Some("image".into()),
            "inputs `image` f32 [?, 1, 8, 8]",
        ),
        (
            |graph| graph.output[0].name = Some("scores".into()),
            "outputs `scores` f32 [?, 3]",
        ),
        (
            |graph| type_of(&mut graph.input[0]).elem_type = Some(DataType::Float16 as i32),
            "`input` (not an f32",
        ),
        (
            |graph| graph.input.push(graph.input[0].clone()),
            "`input` f32 [?, 1, 8, 8], `input`",
        ),
        (|graph| graph.output.clear(), "outputs none"),
        (
            |graph| shape_of(&mut graph.input[0]).dim[0].value = Some(DimensionValue::Value(1)),
            "`input` f32 [1, 1, 8, 8]",
        ),
        (
            |graph| shape_of(&mut graph.input[0]).dim[1].value = None,
            "`input` f32 [?, ?, 8, 8]",
        ),
        (
            |graph| {
                shape_of(&mut graph.output[0])
                    .dim
                    .push(Dimension::default())
            },
            "`logits` f32 [?, 3, ?]",
        ),
    ];
    for (change, described) in cases {
        let refusal = refusal(|_, graph| change(graph));
        assert!(refusal.contains(described), "{described}: {refusal}");
    }
}

#[test]
fn models_above_a_limit_are_rejected_before_decoding() {
    let onnx = exported().encode_to_vec();
    let ample = Limits::default();
    let cases = [
        Limits {
            bytes: onnx.len() - 1,
            ..ample
        },
        Limits { nodes: 3, ..ample },
        Limits {
            fields: 10,
            ..ample
        },
    ];
    for limits in cases {
        let error = check_model(&onnx, &limits).expect_err("the model is refused");
        assert!(
            matches!(
                error,
                ModelError::TooLarge { .. } | ModelError::TooComplex { .. }
            ),
            "{error}"
        );
    }
}

#[test]
fn files_that_are_not_onnx_are_malformed() {
    let onnx = exported().encode_to_vec();
    let cases: [&[u8]; 4] = [
        b"",
        b"not an ONNX file",
        &onnx[..onnx.len() / 2],
        &[0x3a, 0],
    ];
    for bytes in cases {
        let error = check_model(bytes, &Limits::default()).expect_err("the bytes are refused");
        let allowed = matches!(
            error,
            ModelError::Malformed(_) | ModelError::Interface { .. }
        );
        assert!(allowed, "{error}");
    }
}
