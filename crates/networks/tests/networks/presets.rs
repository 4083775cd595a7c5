//! Presets: sizes of well-known networks, and students of every size for every image.

use networks::{Layer, NetworkSpec, Operation, Shape, cost};

fn spec(text: &str) -> NetworkSpec {
    NetworkSpec::from_toml(text).unwrap_or_else(|error| panic!("{text}: {error}"))
}

#[test]
fn costs_are_those_that_the_authors_publish() {
    // Parameters and multiply-adds (in thousandths of 10^9) of torchvision's `Weights.IMAGENET1K_V1.meta`;
    // timm 1.0 counts the parameters of EfficientNet-Lite, and Google publishes its multiply-adds:
    // https://github.com/tensorflow/tpu/tree/master/models/official/efficientnet/lite
    for (preset, parameters, multiply_adds) in [
        ("preset = 'resnet18'", 11_689_512, 1814),
        ("preset = 'resnet34'", 21_797_672, 3664),
        ("preset = 'resnet50'", 25_557_032, 4089),
        ("preset = 'mobilenet_v2'", 3_504_872, 301),
        ("preset = 'vgg16_bn'", 138_365_992, 15_470),
        ("preset = 'efficientnet_lite0'", 4_652_008, 385),
        ("preset = 'efficientnet_lite'", 4_652_008, 385),
    ] {
        let text = format!("input = [3, 224, 224]\nclasses = 1000\n{preset}");
        let found = cost(&spec(&text)).unwrap();
        assert_eq!(found.parameters, parameters, "{preset}");
        let rounded = (found.multiply_adds + 500_000) / 1_000_000;
        assert_eq!(rounded, multiply_adds, "{preset}");
    }
}

/// The image that global average pooling takes.
fn pooled(layers: &[Layer]) -> [usize; 3] {
    let pool = layers
        .iter()
        .find(|layer| layer.operation == Operation::GlobalAvgPool);
    pool.expect("a pooled head").input.image().unwrap()
}

#[test]
fn students_of_every_size_take_every_image() {
    let inputs = [
        [1, 28, 28],
        [3, 32, 32],
        [3, 48, 64],
        [3, 96, 96],
        [3, 128, 128],
        [3, 224, 224],
    ];
    for input in inputs {
        for preset in ["cnn", "resnet", "mobilenet_v2", "efficientnet_lite", "mlp"] {
            let mut smaller = 0;
            for (width, depth) in [(0.25, 1), (0.5, 1), (1.0, 1), (1.0, 2), (1.4, 3)] {
                let text = format!(
                    "input = {input:?}\nclasses = 10\npreset = '{preset}'\nwidth = {width}\ndepth = {depth}"
                );
                let spec = spec(&text);
                assert_eq!(
                    NetworkSpec::from_toml(&toml::to_string(&spec).unwrap()).unwrap(),
                    spec
                );
                let layers = spec
                    .layers()
                    .unwrap_or_else(|error| panic!("{text}: {error}"));
                let parameters = cost(&spec).unwrap().parameters;
                assert!(parameters > smaller, "{text}: {parameters}");
                smaller = parameters;
                if preset != "mlp" {
                    let [_, height, _] = pooled(&layers);
                    assert!((4..=13).contains(&height), "{text}: {height}");
                }
            }
        }
    }
}

#[test]
fn strides_adapt_to_the_image() {
    for (preset, side, expected) in [
        // The layout of ResNet-20 for CIFAR (He et al. 2015, section 4.2).
        ("preset = 'resnet'\nwidth = 1\ndepth = 3", 32, [64, 8, 8]),
        ("preset = 'resnet'\nwidth = 1", 224, [64, 7, 7]),
        ("preset = 'cnn'\nwidth = 1", 28, [128, 4, 4]),
        ("preset = 'mobilenet_v2'", 28, [1280, 7, 7]),
        ("preset = 'mobilenet_v2'", 32, [1280, 4, 4]),
        ("preset = 'mobilenet_v2'", 224, [1280, 7, 7]),
        // Published layouts do not adapt.
        ("preset = 'efficientnet_lite0'", 32, [1280, 1, 1]),
        ("preset = 'resnet18'", 32, [512, 1, 1]),
    ] {
        let text = format!("input = [3, {side}, {side}]\nclasses = 10\n{preset}");
        assert_eq!(pooled(&spec(&text).layers().unwrap()), expected, "{text}");
    }
}

#[test]
fn a_fully_connected_network_takes_vectors() {
    let vector = spec("input = [784]\nclasses = 10\npreset = 'mlp'\nwidths = [16]");
    assert_eq!(vector.input, Shape::Vector { features: 784 });
    let image = spec("input = [1, 28, 28]\nclasses = 10\npreset = 'mlp'\nwidths = [16]");
    assert_eq!(cost(&vector).unwrap(), cost(&image).unwrap());
    assert_eq!(
        NetworkSpec::from_toml(&toml::to_string(&vector).unwrap()).unwrap(),
        vector
    );
}
