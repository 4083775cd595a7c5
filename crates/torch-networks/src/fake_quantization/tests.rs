use std::{cell::RefCell, collections::BTreeSet};

use networks::{
    NetworkSpec, WeightTensor, Weights,
    onnx::{
        Range,
        schema::{ModelProto, NodeProto, TensorProto},
    },
};
use prost::Message;
use tch::{Kind, no_grad};

use super::*;
use crate::to_values;

const EVERY_LAYER: &str = include_str!("../../../networks/tests/networks/specs/every-layer.toml");
const MOBILE: &str = include_str!("../../tests/golden/mobile.toml");
const RESNET: &str = "input = [1, 12, 12]\nclasses = 4\npreset = \"resnet\"\nwidths = [5, 6]";
const INPUT_RANGE: Range = Range {
    min: -1.5,
    max: 3.0,
};

/// A network whose biases and batch-norms are not those of the start.
fn network(spec: &str) -> (NetworkSpec, Weights, TorchNetwork) {
    let spec = NetworkSpec::from_toml(spec).unwrap();
    let initial = Weights::initial(&spec, 3).unwrap();
    let tensors = initial.iter().map(|(name, tensor)| {
        let WeightTensor { shape, mut data } = tensor.clone();
        if shape.len() == 1 {
            let noise = (0..).map(|at| ((at * 7 + name.len()) as f32 * 0.739).sin());
            data.iter_mut()
                .zip(noise)
                .for_each(|(value, noise)| *value += 0.4 * noise);
        }
        (name.to_owned(), WeightTensor { shape, data })
    });
    let weights = Weights::from_tensors(tensors.collect::<Vec<_>>(), &spec).unwrap();
    let network = TorchNetwork::new(&spec, &weights, Device::Cpu).unwrap();
    (spec, weights, network)
}

/// The model in int8, and the ranges that it needed.
fn quantized(spec: &NetworkSpec, weights: &Weights) -> (ModelProto, Ranges) {
    let onnx = onnx::export(spec, weights).unwrap();
    let ranges = RefCell::new(Ranges::new());
    let int8 = onnx::quantize(&onnx, |name| {
        let mut ranges = ranges.borrow_mut();
        let max = INPUT_RANGE.max + ranges.len() as f32 / 7.0;
        let range = Range { max, ..INPUT_RANGE };
        Some(*ranges.entry(name.to_owned()).or_insert(range))
    });
    let int8 = ModelProto::decode(&int8.unwrap()[..]).unwrap();
    (int8, ranges.into_inner())
}

/// The convolutions and linear layers in network order.
fn kernels(steps: &[Step]) -> Vec<&Kernel> {
    let kernels = steps.iter().flat_map(|step| match &step.operator {
        Operator::Kernel(kernel) => vec![kernel],
        Operator::Residual { body, shortcut, .. } => [kernels(body), kernels(shortcut)].concat(),
        Operator::Gate { gate, .. } => kernels(gate),
        Operator::Module(_) | Operator::Silu { .. } => Vec::new(),
    });
    kernels.collect()
}

/// The values of a DequantizeLinear with one scale for each row, by the definition of ONNX.
fn dequantized(model: &ModelProto, node: &NodeProto) -> Vec<f32> {
    let constants = &model.graph.as_ref().unwrap().initializer;
    let bytes = |name: &str| {
        let constant = constants.iter().find(|tensor| tensor.name() == name);
        constant.unwrap().raw_data.clone().unwrap()
    };
    let words = |name: &str| -> Vec<[u8; 4]> { bytes(name).as_chunks().0.to_vec() };
    let scales = words(&node.input[1]).into_iter().map(f32::from_le_bytes);
    let scales: Vec<_> = scales.collect();
    let is_bias = constants
        .iter()
        .find(|tensor| tensor.name() == node.input[0])
        .is_some_and(|tensor: &TensorProto| tensor.dims.len() == 1);
    let values: Vec<f32> = if is_bias {
        let words = words(&node.input[0]).into_iter();
        words.map(|word| i32::from_le_bytes(word) as f32).collect()
    } else {
        let bytes = bytes(&node.input[0]).into_iter();
        bytes.map(|byte| f32::from(byte as i8)).collect()
    };
    let row = values.len() / scales.len();
    let rows = values.chunks(row).zip(&scales);
    rows.flat_map(|(row, scale)| row.iter().map(move |value| value * scale))
        .collect()
}

/// The values of a constant in f32.
fn constant(model: &ModelProto, name: &str) -> Vec<f32> {
    let constants = &model.graph.as_ref().unwrap().initializer;
    let constant = constants.iter().find(|tensor| tensor.name() == name);
    let bytes = constant.unwrap().raw_data.as_ref().unwrap();
    let words = bytes.as_chunks().0.iter();
    words.map(|word| f32::from_le_bytes(*word)).collect()
}

/// Compares each weight and bias with those of the model in int8.
fn compare_kernels(spec: &NetworkSpec, weights: &Weights) {
    let network = TorchNetwork::new(spec, weights, Device::Cpu).unwrap();
    let (int8, ranges) = quantized(spec, weights);
    let fake = FakeQuantizedNetwork::new(&network, &ranges).unwrap();
    let nodes = &int8.graph.as_ref().unwrap().node;
    let values = |name: &String| match nodes.iter().find(|node| node.output[0] == *name) {
        Some(node) => dequantized(&int8, node),
        None => constant(&int8, name),
    };
    let products = nodes
        .iter()
        .filter(|node| matches!(node.op_type(), "Conv" | "Gemm"));
    let products: Vec<_> = products.collect();
    let kernels = kernels(&fake.steps);
    assert_eq!(kernels.len(), products.len());
    for (kernel, product) in kernels.into_iter().zip(products) {
        let (weight, bias) = kernel.rounded().unwrap();
        let found = to_values(&weight).unwrap().data;
        let expected = values(&product.input[1]);
        assert!(found == expected, "weight of {}", product.name());
        let bias = bias.map(|bias| to_values(&bias).unwrap().data);
        let expected = product.input.get(2).map(values);
        assert!(bias == expected, "bias of {}", product.name());

        // Rounding changes something, and the values before it are not compared by mistake.
        let unrounded = no_grad(|| kernel.folded()).unwrap().0;
        let is_rounded = to_values(&unrounded).unwrap().data != found;
        let is_int8 = nodes.iter().any(|node| node.output[0] == product.input[1]);
        assert_eq!(is_rounded, is_int8, "{}", product.name());
    }
}

#[test]
fn weights_and_biases_are_those_of_the_model_in_int8_to_the_last_bit() {
    for text in [EVERY_LAYER, MOBILE, RESNET] {
        let (spec, weights, _) = network(text);
        compare_kernels(&spec, &weights);
    }
}

#[test]
fn a_bias_that_is_large_beside_its_weights_is_that_of_the_model_in_int8() {
    let spec = "input = [1, 1, 5]\nclasses = 3\npreset = \"mlp\"\nwidths = [4]";
    let (spec, weights, _) = network(spec);
    for (of_weights, of_biases) in [(1e-20, 0.3), (1e-6, 4e9), (1e-44, 1e-30)] {
        let tensors = weights.iter().map(|(name, tensor)| {
            let WeightTensor { shape, mut data } = tensor.clone();
            let factor = match shape.len() {
                1 => of_biases,
                _ => of_weights,
            };
            data.iter_mut().for_each(|value| *value *= factor);
            (name.to_owned(), WeightTensor { shape, data })
        });
        let weights = Weights::from_tensors(tensors.collect::<Vec<_>>(), &spec).unwrap();
        compare_kernels(&spec, &weights);
    }
}

/// Requires that the network rounds the tensors that the model in int8 rounds.
fn compare_tensors(spec: &NetworkSpec, weights: &Weights, network: &TorchNetwork) {
    let (_, ranges) = quantized(spec, weights);
    assert!(FakeQuantizedNetwork::new(network, &ranges).is_ok());
    for name in ranges.keys() {
        let mut without = ranges.clone();
        without.remove(name);
        let error = FakeQuantizedNetwork::new(network, &without).err().unwrap();
        assert!(error.to_string().contains(name.as_str()), "{error}");
    }
}

#[test]
fn the_same_tensors_are_rounded_as_in_the_model_in_int8() {
    for text in [EVERY_LAYER, MOBILE, RESNET] {
        let (spec, weights, network) = network(text);
        compare_tensors(&spec, &weights, &network);
    }
}

#[test]
fn the_first_convolutions_are_those_of_the_model_in_int8() {
    const CONV: &str = "{ type = 'conv', channels = 3, kernel = 3 }";
    const SAME_SHAPE: &str = "{ type = 'conv', channels = 2, kernel = 3 }, { type = 'batch_norm' }";
    for (first, in_f32) in [
        (format!("{CONV}, {{ type = 'batch_norm' }}"), 1),
        ("{ type = 'depthwise_conv', kernel = 3 }".to_owned(), 1),
        (format!("{{ type = 'dropout', rate = 0.1 }}, {CONV}"), 1),
        (format!("{{ type = 'max_pool', kernel = 2 }}, {CONV}"), 1),
        (format!("{{ type = 'avg_pool', kernel = 2 }}, {CONV}"), 0),
        (format!("{{ type = 'batch_norm' }}, {CONV}"), 0),
        // The shortcut is the input.
        (format!("{{ type = 'residual', body = [{SAME_SHAPE}] }}"), 1),
        // The shortcut has a convolution of its own.
        (format!("{{ type = 'residual', body = [{CONV}] }}"), 2),
        (
            format!("{{ type = 'squeeze_excitation', channels = 2 }}, {CONV}"),
            0,
        ),
    ] {
        let text = format!(
            "input = [2, 8, 8]\nclasses = 4\nlayers = [{first}, {CONV}, {{ type = 'global_avg_pool' }}, \
             {{ type = 'flatten' }}, {{ type = 'linear', features = 4 }}]"
        );
        let (spec, weights, network) = network(&text);
        compare_kernels(&spec, &weights);
        compare_tensors(&spec, &weights, &network);
        let (_, ranges) = quantized(&spec, &weights);
        let fake = FakeQuantizedNetwork::new(&network, &ranges).unwrap();
        let kernels = kernels(&fake.steps).into_iter();
        let found = kernels.filter(|kernel| kernel.input_scale.is_none());
        assert_eq!(found.count(), in_f32, "{first}");
    }
}

#[test]
fn the_weights_are_those_of_pytorchs_operator() {
    let weight = Tensor::from_slice(&[0.64f32, -0.32, 0.0051, 6.4, -6.4, 0.26]).view([2, 3]);
    let kernel = Kernel {
        product: Product::Linear,
        weight: weight.shallow_clone(),
        bias: None,
        norms: Vec::new(),
        input_scale: Some(1.0),
    };
    let scale = Tensor::from_slice(&[0.01f32, 0.1]);
    let zero_point = Tensor::from_slice(&[0i32, 0]);
    let expected = weight.fake_quantize_per_channel_affine(&scale, &zero_point, 0, -64, 64);
    let (found, bias) = kernel.rounded().unwrap();
    let [found, expected] = [found, expected].map(|tensor| to_values(&tensor).unwrap().data);
    assert_eq!(found, expected);
    assert!(bias.is_none());
}

/// Values computed by hand from the definition of QuantizeLinear and DequantizeLinear: steps of 1/2, 0 is at 3.
#[test]
fn activations_are_rounded_half_to_even_and_have_gradients_within_their_range() {
    let scale = ActivationScale {
        scale: 0.5,
        zero_point: 3,
    };
    let values = [
        -9.0f32, -1.75, -1.5, -0.25, 0.2, 0.25, 0.75, 126.0, 126.5, 1e9,
    ];
    let expected = [-1.5f32, -1.5, -1.5, 0.0, 0.0, 0.0, 1.0, 126.0, 126.0, 126.0];
    // -1.75 is 3.5 steps below 0, which rounds to 4 steps: outside.
    let gradients = [0.0f32, 0.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 0.0, 0.0];
    let input = Tensor::from_slice(&values).set_requires_grad(true);
    let rounded = round(&input, scale).unwrap();
    let read = |tensor: &Tensor| to_values(tensor).unwrap().data;
    assert_eq!(read(&rounded), expected);
    let sum = rounded.sum(Kind::Float);
    let found = Tensor::run_backward(&[sum], &[&input], false, false);
    assert_eq!(read(&found[0]), gradients);
}

#[test]
fn every_parameter_has_a_gradient_and_no_statistic_changes() {
    for text in [EVERY_LAYER, MOBILE, RESNET] {
        let (spec, weights, network) = network(text);
        let (_, ranges) = quantized(&spec, &weights);
        let fake = FakeQuantizedNetwork::new(&network, &ranges).unwrap();
        let sizes = spec.input.dimensions().into_iter().map(|size| size as i64);
        let shape: Vec<_> = [4].into_iter().chain(sizes).collect();
        let count: i64 = shape.iter().product();
        let values: Vec<_> = (0..count).map(|at| (at as f32 * 0.37).sin()).collect();
        let input = Tensor::from_slice(&values).view(&shape[..]);
        let logits = fake.forward(&input).unwrap();
        assert_eq!(logits.size(), [4, spec.classes as i64]);
        let loss = logits.square().sum(Kind::Float);
        let parameters = network.parameters().iter();
        let parameters: Vec<_> = parameters.map(|(_, tensor)| tensor).collect();
        let gradients = Tensor::run_backward(&[loss], &parameters, false, false);
        let moved = gradients.iter().zip(network.parameters());
        let moved = moved.filter(|(gradient, _)| gradient.abs().max().double_value(&[]) > 0.0);
        let moved: BTreeSet<_> = moved.map(|(_, (name, _))| name).collect();
        // A layer may be without effect where a ReLU before or after it is 0 for all of these values.
        assert!(2 * moved.len() > network.parameters().len(), "{moved:?}");
        assert_eq!(network.weights().unwrap(), weights);

        // It follows the updates of the network whose tensors it shares.
        network
            .load_weights(&Weights::initial(&spec, 9).unwrap())
            .unwrap();
        assert!(no_grad(|| fake.forward(&input)).unwrap() != logits);
        let wrong = no_grad(|| fake.forward(&input.view([-1, 1])));
        assert!(matches!(wrong, Err(TorchError::Input { .. })));
    }
}
