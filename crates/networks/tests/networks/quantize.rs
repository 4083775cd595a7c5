//! Reads the files of the quantization.

use std::collections::BTreeMap;

use networks::{
    NetworkSpec, Weights,
    onnx::{
        self, QuantizeError, Range,
        schema::{DataType, GraphProto, ModelProto, NodeProto, TensorProto},
    },
};
use prost::Message;

const RANGE: Range = Range {
    min: -1.0,
    max: 3.0,
};

fn exported(spec: &str) -> Vec<u8> {
    let spec = NetworkSpec::from_toml(spec).unwrap();
    onnx::export(&spec, &Weights::initial(&spec, 3).unwrap()).unwrap()
}

fn every_layer() -> Vec<u8> {
    exported(include_str!("specs/every-layer.toml"))
}

fn graph(onnx: &[u8]) -> GraphProto {
    ModelProto::decode(onnx).unwrap().graph.unwrap()
}

fn operators(graph: &GraphProto) -> Vec<&str> {
    graph.node.iter().map(NodeProto::op_type).collect()
}

/// The constants of a graph by name.
fn constants(graph: &GraphProto) -> BTreeMap<&str, &TensorProto> {
    let constants = graph.initializer.iter();
    constants.map(|tensor| (tensor.name(), tensor)).collect()
}

#[test]
fn a_network_becomes_the_form_that_onnx_runtime_fuses() {
    let onnx = exported("input = [12]\nclasses = 3\npreset = 'mlp'\nwidths = [4]");
    let quantized = onnx::quantize(&onnx, |_| Some(RANGE)).unwrap();
    let graph = graph(&quantized);
    let layer = [
        "QuantizeLinear",
        "DequantizeLinear",
        // Weight and bias.
        "DequantizeLinear",
        "DequantizeLinear",
        "Gemm",
    ];
    let expected = [&layer[..], &["Relu"], &layer].concat();
    assert_eq!(operators(&graph), expected);
    assert_eq!(graph.node.last().unwrap().output, ["logits"]);
    let constants = constants(&graph);
    let scale = constants["input.scale"].raw_data.as_deref();
    assert_eq!(scale, Some(&(4.0_f32 / 255.0).to_le_bytes()[..]));
    assert_eq!(constants["input.zero_point"].raw_data, Some(vec![64]));
}

#[test]
fn every_weight_is_int8_with_a_scale_for_each_channel() {
    let float = every_layer();
    let quantized = onnx::quantize(&float, |_| Some(RANGE)).unwrap();
    assert_eq!(quantized, onnx::quantize(&float, |_| Some(RANGE)).unwrap());
    let (before, after) = (graph(&float), graph(&quantized));
    let (float, int8) = (constants(&before), constants(&after));
    let layers = before.node.iter();
    let layers = layers.filter(|node| matches!(node.op_type(), "Conv" | "Gemm"));
    // The convolution of the color image stays in f32.
    let layers = layers.filter(|node| node.input[0] != "input");
    for layer in layers {
        let [weight, bias] = [1, 2].map(|input| layer.input[input].as_str());
        assert!(!int8.contains_key(weight) && !int8.contains_key(bias));
        let typed = |name: &str, part: &str| {
            let tensor = int8[format!("{name}.{part}").as_str()];
            let bytes = tensor.raw_data.as_ref().unwrap().len();
            (tensor.data_type, tensor.dims.clone(), bytes)
        };
        let sizes = &float[weight].dims;
        let (channels, values) = (sizes[0] as usize, sizes.iter().product::<i64>() as usize);
        let per_channel = vec![sizes[0]];
        for (name, part, kind, sizes, bytes) in [
            (weight, "quantized", DataType::Int8, sizes, values),
            (weight, "scale", DataType::Float, &per_channel, 4 * channels),
            (weight, "zero_point", DataType::Int8, &per_channel, channels),
            (
                bias,
                "quantized",
                DataType::Int32,
                &per_channel,
                4 * channels,
            ),
            (bias, "scale", DataType::Float, &per_channel, 4 * channels),
        ] {
            let expected = (Some(kind as i32), sizes.clone(), bytes);
            assert_eq!(typed(name, part), expected, "{name}.{part}");
        }
        let found = after.node.iter().find(|node| node.name() == layer.name());
        assert!(
            found
                .unwrap()
                .input
                .iter()
                .all(|input| input.ends_with(".dequantized"))
        );
    }
    let mut known: Vec<_> = int8.keys().map(|name| (*name).to_owned()).collect();
    known.push("input".to_owned());
    for node in &after.node {
        for input in &node.input {
            assert!(known.contains(input), "{input} is used before it is made");
        }
        known.extend(node.output.clone());
    }
    // A part of a tensor has the scale of the whole.
    let pools = before
        .node
        .iter()
        .filter(|node| node.op_type() == "MaxPool");
    for pool in pools {
        assert!(!int8.contains_key(format!("{}.scale", pool.output[0]).as_str()));
    }
}

#[test]
fn a_convolution_of_a_grayscale_or_color_image_stays_in_f32() {
    for (channels, stays) in [(1, true), (3, true), (4, false)] {
        let spec =
            format!("input = [{channels}, 8, 8]\nclasses = 3\npreset = 'cnn'\nwidths = [3, 4]");
        let onnx = exported(&spec);
        let quantized = graph(&onnx::quantize(&onnx, |_| Some(RANGE)).unwrap());
        let (before, after) = (graph(&onnx), &quantized);
        let convolutions = |graph: &GraphProto| -> Vec<Vec<String>> {
            let nodes = graph.node.iter();
            let nodes = nodes.filter(|node| node.op_type() == "Conv");
            nodes.map(|node| node.input.clone()).collect()
        };
        let [before_inputs, after_inputs] = [&before, after].map(convolutions);
        assert_eq!(
            before_inputs[0] == after_inputs[0],
            stays,
            "{channels} channels"
        );
        // Only the first one: the second has 3 input channels, too.
        assert_ne!(before_inputs[1], after_inputs[1]);
        let constants = constants(after);
        assert_eq!(constants.contains_key("input.scale"), !stays);
        assert_eq!(constants.contains_key(before_inputs[0][1].as_str()), stays);
    }
}

#[test]
fn every_tensor_between_operators_can_be_an_output() {
    let onnx = every_layer();
    let (before, after) = (graph(&onnx), graph(&onnx::with_all_outputs(&onnx).unwrap()));
    assert_eq!(after.node, before.node);
    let outputs: Vec<_> = after.output.iter().map(|output| output.name()).collect();
    assert_eq!(outputs[0], "logits");
    assert_eq!(outputs.len(), before.node.len());
    for made in before.node.iter().flat_map(|node| &node.output) {
        assert!(outputs.contains(&made.as_str()), "{made}");
    }
}

#[test]
fn ranges_that_cannot_be_used_name_the_tensor() {
    let onnx = every_layer();
    let error = onnx::quantize(&onnx, |_| None).unwrap_err();
    assert!(
        matches!(&error, QuantizeError::NoRange(name) if name == "layers.2.output"),
        "{error}"
    );
    let infinite = Range {
        max: f32::INFINITY,
        ..RANGE
    };
    let of = |name: &str| match name {
        "layers.2.output" => RANGE,
        _ => infinite,
    };
    let error = onnx::quantize(&onnx, |name| Some(of(name))).unwrap_err();
    let text = error.to_string();
    assert!(matches!(error, QuantizeError::NotFinite { .. }), "{text}");
    assert!(text.contains("reaches from -1 to inf"), "{text}");
    let error = onnx::quantize(b"no model", |_| Some(RANGE)).unwrap_err();
    assert!(matches!(error, QuantizeError::Malformed(_)), "{error}");
}
