//! Basics of training: gradients reduce the loss, results are bit-reproducible, weights round-trip.

use common::compute::PrecisionChoice;
use networks::{NetworkSpec, Weights};
use tch::{Device, Kind, Tensor, no_grad};
use torch_networks::{Mode, Precision, TorchError, TorchNetwork, normalize, numerics};

fn spec(dropout: f64) -> NetworkSpec {
    let text = format!(
        "input = [1, 8, 8]\nclasses = 4\npreset = \"resnet\"\nwidths = [8, 16]\ndropout = {dropout}"
    );
    NetworkSpec::from_toml(&text).expect("a good spec")
}

fn network(spec: &NetworkSpec, seed: u64) -> TorchNetwork {
    let weights = Weights::initial(spec, seed).expect("weights");
    TorchNetwork::new(spec, &weights, Device::Cpu).expect("a network")
}

fn images(samples: i64) -> Tensor {
    let count = samples * 64;
    (Tensor::arange(count, (Kind::Float, Device::Cpu)) * 0.7)
        .sin()
        .view([samples, 1, 8, 8])
}

/// Runs plain gradient descent on 16 images and returns the loss of each step.
fn train(network: &TorchNetwork, precision: Precision, steps: u64) -> Vec<f64> {
    let labels = Tensor::arange(16, (Kind::Int64, Device::Cpu)).remainder(4);
    let step = |step| {
        let mode = Mode::Train { dropout_seed: step };
        let loss = network
            .forward(&images(16), mode, precision)
            .expect("logits")
            .cross_entropy_for_logits(&labels);
        loss.backward();
        no_grad(|| {
            for (_, parameter) in network.parameters() {
                let mut gradient = parameter.grad();
                let _ = parameter.shallow_clone().subtract_(&(&gradient * 0.1));
                let _ = gradient.zero_();
            }
        });
        loss.double_value(&[])
    };
    (0..steps).map(step).collect()
}

#[test]
fn the_loss_falls_and_repeats_bit_by_bit() {
    torch_networks::set_threads(1);
    for precision in [Precision::F32, Precision::Bf16] {
        let spec = spec(0.1);
        let (first, second) = (network(&spec, 1), network(&spec, 1));
        let losses = train(&first, precision, 40);
        assert!(losses[39] < 0.7 * losses[0], "{precision}: {losses:?}");
        assert_eq!(losses, train(&second, precision, 40), "{precision}");
        assert_eq!(
            first.weights().unwrap(),
            second.weights().unwrap(),
            "{precision}"
        );
    }
}

#[test]
fn dropout_is_a_function_of_its_seed_and_of_training() {
    let network = network(&spec(0.5), 1);
    let logits = |mode| {
        let logits = no_grad(|| network.forward(&images(4), mode, Precision::F32)).unwrap();
        Vec::<f32>::try_from(logits.view([-1])).unwrap()
    };
    let train = |dropout_seed| logits(Mode::Train { dropout_seed });
    assert_eq!(train(7), train(7));
    assert_ne!(train(7), train(8));
    assert_eq!(logits(Mode::Evaluate), logits(Mode::Evaluate));
}

#[test]
fn weights_survive_a_round_trip() {
    let spec = spec(0.0);
    let first = network(&spec, 1);
    train(&first, Precision::F32, 2);
    let weights = first.weights().unwrap();
    let second = network(&spec, 2);
    assert_ne!(second.weights().unwrap(), weights);
    second.load_weights(&weights).unwrap();
    assert_eq!(second.weights().unwrap(), weights);
    assert_eq!(
        train(&first, Precision::F32, 2),
        train(&second, Precision::F32, 2)
    );
}

#[test]
fn vectors_are_an_input() {
    let spec = |input: &str| {
        let text = format!("input = {input}\nclasses = 4\npreset = \"mlp\"\nwidths = [8]");
        NetworkSpec::from_toml(&text).unwrap()
    };
    let (vector, image) = (spec("[64]"), spec("[1, 8, 8]"));
    // The image's network flattens first, so its linear layers have other indices.
    let weights = Weights::initial(&vector, 1).unwrap();
    let renamed = weights.iter().map(|(name, tensor)| {
        let name = name
            .replace("layers.2", "layers.3")
            .replace("layers.0", "layers.1");
        (name, tensor.clone())
    });
    let renamed = Weights::from_tensors(renamed.collect::<Vec<_>>(), &image).unwrap();
    let logits = |spec, weights, input: Tensor| {
        let network = TorchNetwork::new(spec, weights, Device::Cpu).unwrap();
        assert!(numerics(&network, Precision::F32).is_ok());
        let forward = || network.forward(&input, Mode::Evaluate, Precision::F32);
        Vec::<f32>::try_from(no_grad(forward).unwrap().view([-1])).unwrap()
    };
    assert_eq!(
        logits(&vector, &weights, images(3).view([3, 64])),
        logits(&image, &renamed, images(3))
    );
}

#[test]
fn numerics_differ_between_precisions_and_weights() {
    let (one, two) = (network(&spec(0.0), 1), network(&spec(0.0), 2));
    let f32 = numerics(&one, Precision::F32).unwrap();
    assert_eq!(f32, numerics(&one, Precision::F32).unwrap());
    assert!(
        f32.descriptor.starts_with("f32 on cpu (aten "),
        "{}",
        f32.descriptor
    );
    assert!(f32.descriptor.contains("libtorch 2."), "{}", f32.descriptor);
    let bf16 = numerics(&one, Precision::Bf16).unwrap();
    assert_ne!(f32.descriptor, bf16.descriptor);
    assert_ne!(f32.probe_sha256, bf16.probe_sha256);
    let other = numerics(&two, Precision::F32).unwrap();
    assert_eq!(f32.descriptor, other.descriptor);
    assert_ne!(f32.probe_sha256, other.probe_sha256);
    assert_eq!(Precision::on_cpu(PrecisionChoice::Bf16), Precision::Bf16);
}

#[test]
fn pixels_are_normalized_per_channel() {
    let pixels = [0, 51, 255, 102];
    let input = normalize(&pixels, [1, 2, 1, 2], &[0.5, 0.2], &[0.25, 0.1]).unwrap();
    assert_eq!(input.size(), [1, 2, 1, 2]);
    let values = Vec::<f32>::try_from(input.view([-1])).unwrap();
    for (found, expected) in values.iter().zip([-2.0, -1.2, 8.0, 2.0]) {
        assert!((found - expected).abs() < 1e-5, "{values:?}");
    }
}

#[test]
fn errors_name_the_wrong_input() {
    let error = |result: Result<Tensor, TorchError>| result.expect_err("refused").to_string();
    assert_eq!(
        error(normalize(&[0; 3], [1, 1, 2, 2], &[0.5], &[0.5])),
        "number of pixels: 3, expected 4"
    );
    assert_eq!(
        error(normalize(&[0; 4], [1, 1, 2, 2], &[], &[0.5])),
        "number of means: 0, expected 1"
    );
    let network = network(&spec(0.0), 1);
    let mode = Mode::Train { dropout_seed: 0 };
    let found = error(network.forward(&images(2).view([2, 1, 4, 16]), mode, Precision::F32));
    assert_eq!(
        found,
        "shape of the network's input: [2, 1, 4, 16], expected [at least 1, 1, 8, 8]"
    );

    let mlp = "input = [1, 8, 8]\nclasses = 2\nlayers = [{ type = \"flatten\" }, { type = \"batch_norm\" }, { type = \"linear\", features = 2 }]";
    let mlp = self::network(&NetworkSpec::from_toml(mlp).unwrap(), 1);
    let found = error(mlp.forward(&images(1), mode, Precision::F32));
    assert!(found.contains("single value per channel"), "{found}");
}

#[test]
fn diverged_weights_are_rejected() {
    let network = network(&spec(0.0), 1);
    let _ = no_grad(|| network.parameters()[0].1.shallow_clone().fill_(f64::NAN));
    let error = network.weights().expect_err("NaN").to_string();
    assert_eq!(
        error,
        "tensor `layers.0.weight` holds a value that is not finite"
    );
}
