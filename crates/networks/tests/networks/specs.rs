//! Valid specs: their costs and their serialization.

use networks::{
    Activation, Architecture, Cost, LayerSpec, NetworkSpec, Padding, Shape, Shortcut, Weights,
    Window, cost, model_id,
};
use proptest::prelude::*;

const SPECS: [(&str, &str, Cost); 6] = [
    (
        "resnet14-teacher",
        include_str!("specs/resnet14-teacher.toml"),
        Cost {
            parameters: 696_042,
            multiply_adds: 22_094_208,
        },
    ),
    (
        "resnet8-16-32-64",
        include_str!("specs/resnet8-16-32-64.toml"),
        Cost {
            parameters: 77_754,
            multiply_adds: 9_345_920,
        },
    ),
    (
        "resnet8-12-24-36",
        include_str!("specs/resnet8-12-24-36.toml"),
        Cost {
            parameters: 31_870,
            multiply_adds: 1_249_560,
        },
    ),
    (
        "cnn-24-48-64",
        include_str!("specs/cnn-24-48-64.toml"),
        Cost {
            parameters: 39_154,
            multiply_adds: 1_905_760,
        },
    ),
    (
        "mlp",
        include_str!("specs/mlp.toml"),
        Cost {
            parameters: 14_597,
            multiply_adds: 14_496,
        },
    ),
    (
        "every-layer",
        include_str!("specs/every-layer.toml"),
        Cost {
            parameters: 2_275,
            multiply_adds: 717_872,
        },
    ),
];

fn read(name: &str, text: &str) -> NetworkSpec {
    NetworkSpec::from_toml(text).unwrap_or_else(|error| panic!("{name}: {error}"))
}

#[test]
fn costs_match_manual_counts() {
    for (name, text, expected) in SPECS {
        assert_eq!(cost(&read(name, text)).unwrap(), expected, "{name}");
    }
}

#[test]
fn a_preset_and_its_layers_have_the_same_model_id() {
    for (name, text, _) in SPECS {
        let spec = read(name, text);
        let expanded = spec.expanded().unwrap();
        let weights = Weights::initial(&spec, 1).unwrap();
        assert_eq!(weights, Weights::initial(&expanded, 1).unwrap(), "{name}");
        assert_eq!(
            model_id(&spec, &weights).unwrap(),
            model_id(&expanded, &weights).unwrap(),
            "{name}"
        );
        assert_ne!(weights, Weights::initial(&spec, 2).unwrap(), "{name}");
    }
}

#[test]
fn model_id_is_stable() {
    // Artifacts store this id: a change here would invalidate every trained model.
    let spec = read("cnn", SPECS[3].1);
    let weights = Weights::initial(&spec, 1).unwrap();
    assert_eq!(
        model_id(&spec, &weights).unwrap().as_str(),
        "9b2640613fb900bf1894c16d3ca032da6e9f9eed50d75249b1f8c17fca26424c"
    );
}

fn window() -> impl Strategy<Value = Window> {
    let padding = prop_oneof![
        3 => (0usize..3).prop_map(Padding::Each),
        1 => Just(Padding::Same),
    ];
    (1usize..9, 1usize..4, padding).prop_map(|(kernel, stride, padding)| Window {
        kernel,
        stride,
        padding,
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
        (1usize..99, window(), 1usize..4, any::<bool>()).prop_map(
            |(channels, window, groups, bias)| LayerSpec::Conv {
                channels,
                window,
                groups,
                bias,
            }
        ),
        (window(), any::<bool>())
            .prop_map(|(window, bias)| LayerSpec::DepthwiseConv { window, bias }),
        window().prop_map(LayerSpec::MaxPool),
        window().prop_map(LayerSpec::AvgPool),
        (1usize..99, any::<bool>())
            .prop_map(|(features, bias)| LayerSpec::Linear { features, bias }),
        (0.0..1.0).prop_map(|rate| LayerSpec::Dropout { rate }),
        (1e-9..1.0).prop_map(|epsilon| LayerSpec::BatchNorm { epsilon }),
        Just(LayerSpec::BatchNorm {
            epsilon: networks::BATCH_NORM_EPSILON
        }),
        activation().prop_map(LayerSpec::Activation),
        (1usize..99, activation()).prop_map(|(channels, activation)| {
            LayerSpec::SqueezeExcitation {
                channels,
                activation,
            }
        }),
        Just(LayerSpec::GlobalAvgPool),
        Just(LayerSpec::Flatten),
    ];
    leaf.prop_recursive(2, 8, 4, |layer| {
        let shortcut = prop_oneof![
            Just(None),
            Just(Some(Shortcut::Identity)),
            Just(Some(Shortcut::Projection))
        ];
        let body = prop::collection::vec(layer, 1..4);
        (body, shortcut, prop::option::of(activation())).prop_map(|(body, shortcut, activation)| {
            LayerSpec::Residual {
                body,
                shortcut,
                activation,
            }
        })
    })
}

/// The dimensions of any input, valid or not.
fn any_input() -> impl Strategy<Value = Shape> {
    prop_oneof![
        any::<[usize; 3]>().prop_map(Shape::from),
        any::<usize>().prop_map(|features| Shape::Vector { features }),
    ]
}

proptest! {
    #![proptest_config(test_support::damage::cases(256))]

    #[test]
    fn toml_round_trip_preserves_any_spec(layers in prop::collection::vec(layer(), 0..6)) {
        let spec = NetworkSpec { input: [3, 16, 16].into(), classes: 4, architecture: Architecture::Layers(layers) };
        let text = toml::to_string(&spec).unwrap();
        prop_assert_eq!(NetworkSpec::from_toml(&text), Ok(spec));
    }

    #[test]
    fn resolving_any_spec_never_panics(
        input in any_input(), classes in any::<usize>(),
        small in [1usize..9, 1usize..40, 1usize..40],
        layers in prop::collection::vec(layer(), 0..6),
    ) {
        let spec = |input, classes| NetworkSpec { input, classes, architecture: Architecture::Layers(layers.clone()) };
        let _ = cost(&spec(input, classes));
        let _ = cost(&spec(small.into(), 10));
    }
}
