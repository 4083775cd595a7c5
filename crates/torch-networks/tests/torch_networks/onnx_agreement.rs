//! Random networks give the same logits in libtorch and, after export, in ONNX Runtime.

use std::cell::RefCell;

use networks::{
    Activation, Architecture, LayerSpec, NetworkSpec, Padding, Shape, WeightTensor, Weights,
    Window,
    onnx::{self, Range, Ranges},
};
use onnx_runtime::{Session, SessionOptions};
use proptest::prelude::*;
use tch::{Device, Tensor, no_grad};
use torch_networks::{FakeQuantizedNetwork, Mode, Precision, TorchNetwork};

const BATCH: usize = 3;

fn pool_window() -> impl Strategy<Value = Window> {
    (1usize..6, 1usize..4, 0usize..3).prop_map(|(kernel, stride, padding)| Window {
        kernel,
        stride,
        padding: Padding::Each(padding),
    })
}

fn conv_window() -> impl Strategy<Value = Window> {
    let same = prop_oneof![2 => Just(None), 1 => Just(Some(Padding::Same))];
    (pool_window(), same).prop_map(|(window, same)| Window {
        padding: same.unwrap_or(window.padding),
        ..window
    })
}

fn activation() -> impl Strategy<Value = Activation> {
    prop_oneof![
        Just(Activation::Relu),
        Just(Activation::Relu6),
        Just(Activation::Silu),
        Just(Activation::HardSwish),
        Just(Activation::Sigmoid),
    ]
}

fn layer() -> impl Strategy<Value = LayerSpec> {
    let leaf = prop_oneof![
        4 => (1usize..9, conv_window(), 1usize..4, any::<bool>()).prop_map(
            |(channels, window, groups, bias)| LayerSpec::Conv { channels, window, groups, bias }
        ),
        2 => (conv_window(), any::<bool>())
            .prop_map(|(window, bias)| LayerSpec::DepthwiseConv { window, bias }),
        3 => Just(LayerSpec::BatchNorm { epsilon: networks::BATCH_NORM_EPSILON }),
        1 => Just(LayerSpec::BatchNorm { epsilon: 1e-3 }),
        4 => activation().prop_map(LayerSpec::Activation),
        2 => pool_window().prop_map(LayerSpec::MaxPool),
        2 => pool_window().prop_map(LayerSpec::AvgPool),
        2 => (1usize..5, activation())
            .prop_map(|(channels, activation)| LayerSpec::SqueezeExcitation { channels, activation }),
        1 => Just(LayerSpec::GlobalAvgPool),
        1 => Just(LayerSpec::Flatten),
        1 => (1usize..9, any::<bool>()).prop_map(|(features, bias)| LayerSpec::Linear { features, bias }),
        1 => (0.0..0.9).prop_map(|rate| LayerSpec::Dropout { rate }),
    ];
    leaf.prop_recursive(2, 6, 4, |layer| {
        let body = prop::collection::vec(layer, 1..4);
        (body, prop::option::of(activation())).prop_map(|(body, activation)| LayerSpec::Residual {
            body,
            shortcut: None,
            activation,
        })
    })
}

fn spec() -> impl Strategy<Value = NetworkSpec> {
    let input = [1usize..4, 5usize..14, 5usize..14].prop_map(Shape::from);
    (input, 2usize..6, prop::collection::vec(layer(), 1..10))
        .prop_map(|(input, classes, layers)| valid_network(input, classes, layers))
}

/// Builds a valid network: keeps each candidate layer that can follow the kept ones, and adds a head.
fn valid_network(input: Shape, classes: usize, candidates: Vec<LayerSpec>) -> NetworkSpec {
    let head = || LayerSpec::Linear {
        features: classes,
        bias: true,
    };
    let with_head = |layers: &[LayerSpec], flatten: Option<LayerSpec>| {
        let layers = layers
            .iter()
            .cloned()
            .chain(flatten)
            .chain([head()])
            .collect();
        NetworkSpec {
            input,
            classes,
            architecture: Architecture::Layers(layers),
        }
    };
    let whole = |layers: &[LayerSpec]| {
        [Some(LayerSpec::Flatten), None]
            .into_iter()
            .map(|flatten| with_head(layers, flatten))
            .find(|spec| spec.layers().is_ok())
    };
    let mut kept = Vec::new();
    for layer in candidates {
        kept.push(layer);
        if whole(&kept).is_none() {
            kept.pop();
        }
    }
    whole(&kept).expect("a network without hidden layers is valid")
}

/// Deterministic pseudo-random values between −1 and 1.
fn values(count: usize, seed: usize) -> Vec<f32> {
    (0..count)
        .map(|i| ((i * 7 + seed * 13) as f32 * 0.7391).sin())
        .collect()
}

/// Initial weights, with random batch-norm parameters so that batch-norms are not the identity.
fn weights(spec: &NetworkSpec, seed: u64) -> Weights {
    let initial = Weights::initial(spec, seed).expect("a good spec");
    let tensors = initial.iter().map(|(name, tensor)| {
        let mut data = tensor.data.clone();
        if tensor.shape.len() == 1 {
            let noise = values(data.len(), name.len() + seed as usize);
            data.iter_mut()
                .zip(noise)
                .for_each(|(value, noise)| *value += 0.4 * noise);
        }
        (
            name.to_owned(),
            WeightTensor {
                shape: tensor.shape.clone(),
                data,
            },
        )
    });
    Weights::from_tensors(tensors.collect::<Vec<_>>(), spec).expect("the same shapes")
}

proptest! {
    #![proptest_config(test_support::damage::cases(150))]

    #[test]
    fn libtorch_and_onnx_runtime_agree(spec in spec(), seed in 0u64..1000) {
        let weights = weights(&spec, seed);
        let input = values(BATCH * spec.input.elements(), seed as usize);

        let network = TorchNetwork::new(&spec, &weights, Device::Cpu).unwrap();
        let sizes = spec.input.dimensions().into_iter().map(|size| size as i64);
        let shape: Vec<_> = [BATCH as i64].into_iter().chain(sizes).collect();
        let tensor = Tensor::from_slice(&input).view(shape.as_slice());
        let logits = no_grad(|| network.forward(&tensor, Mode::Evaluate, Precision::F32)).unwrap();
        let expected: Vec<f32> = Vec::try_from(logits.reshape([-1])).unwrap();

        let onnx = onnx::export(&spec, &weights).unwrap();
        let mut session = Session::load(&onnx, SessionOptions { threads: 1 }).unwrap();
        let found = session.run(&input, BATCH).unwrap();

        prop_assert_eq!(found.len(), expected.len());
        let largest = expected.iter().fold(1f32, |largest, logit| largest.max(logit.abs()));
        for (found, expected) in found.iter().zip(&expected) {
            prop_assert!((found - expected).abs() <= 1e-4 * largest, "{} for {}", found, expected);
        }
    }
}

proptest! {
    #![proptest_config(test_support::damage::cases(150))]

    #[test]
    fn training_and_the_model_in_int8_round_the_same_tensors(spec in spec(), seed in 0u64..1000) {
        let weights = weights(&spec, seed);
        let onnx = onnx::export(&spec, &weights).unwrap();
        let ranges = RefCell::new(Ranges::new());
        let range = Range { min: -1.0, max: 2.0 };
        let int8 = onnx::quantize(&onnx, |name| {
            Some(*ranges.borrow_mut().entry(name.to_owned()).or_insert(range))
        });
        prop_assert!(int8.is_ok());
        let ranges = ranges.into_inner();

        let network = TorchNetwork::new(&spec, &weights, Device::Cpu).unwrap();
        let fake = FakeQuantizedNetwork::new(&network, &ranges).unwrap();
        for name in ranges.keys() {
            let mut others = ranges.clone();
            others.remove(name);
            let built = FakeQuantizedNetwork::new(&network, &others);
            prop_assert!(built.is_err(), "{} is not rounded", name);
        }
        let input = values(BATCH * spec.input.elements(), seed as usize);
        let sizes = spec.input.dimensions().into_iter().map(|size| size as i64);
        let shape: Vec<_> = [BATCH as i64].into_iter().chain(sizes).collect();
        let input = Tensor::from_slice(&input).view(shape.as_slice());
        let logits = no_grad(|| fake.forward(&input)).unwrap();
        prop_assert_eq!(logits.size(), [BATCH as i64, spec.classes as i64]);
    }
}
