//! The forward pass of quantization-aware training, compared with the exported model in int8 on ONNX Runtime.

use networks::{
    NetworkSpec, WeightTensor, Weights,
    onnx::{self, Ranges},
};
use onnx_runtime::{Calibration, Session, SessionOptions};
use tch::{Device, Tensor, no_grad};
use torch_networks::{FakeQuantizedNetwork, TorchNetwork};

/// Samples of a batch.
const BATCH: usize = 16;

/// Weights as after training: biases and the statistics of batch-norm are not those of the start.
fn trained(spec: &NetworkSpec) -> Weights {
    let initial = Weights::initial(spec, 7).unwrap();
    let tensors = initial.iter().map(|(name, tensor)| {
        let WeightTensor { shape, mut data } = tensor.clone();
        if shape.len() == 1 {
            for (at, value) in data.iter_mut().enumerate() {
                *value += 0.3 * ((at * 7 + name.len()) as f32 * 0.739).sin();
            }
        }
        (name.to_owned(), WeightTensor { shape, data })
    });
    Weights::from_tensors(tensors.collect::<Vec<_>>(), spec).unwrap()
}

/// Smooth values around 0, others for each `batch`.
fn samples(values: usize, batch: usize) -> Vec<f32> {
    let values = 0..BATCH * values;
    let positions = values.map(|position| position as f32 + 1000.0 * batch as f32);
    positions
        .map(|x| (x * 0.37).sin() + 0.7 * (x * 0.011).cos())
        .collect()
}

/// The ranges of the activations on the first batches.
fn calibrated(onnx: &[u8], values: usize) -> Ranges {
    let mut calibration = Calibration::load(onnx).unwrap();
    for batch in 0..4 {
        calibration.observe(&samples(values, batch), BATCH).unwrap();
    }
    calibration.into_ranges()
}

/// Root of the mean square of the differences, as a share of the standard deviation of `expected`.
fn error(expected: &[f32], found: &[f32]) -> f32 {
    let count = expected.len() as f32;
    let mean = expected.iter().sum::<f32>() / count;
    let variance = expected.iter().map(|x| (x - mean).powi(2)).sum::<f32>();
    let pairs = expected.iter().zip(found);
    let distance = pairs.map(|(a, b)| (a - b).powi(2)).sum::<f32>();
    (distance / variance).sqrt()
}

#[test]
fn the_forward_pass_of_training_is_that_of_the_model_in_int8() {
    for (preset, largest_share) in [
        ("preset = \"cnn\"\nwidths = [8, 12, 16]", 0.5),
        ("preset = \"resnet\"\nwidths = [8, 16]", 0.5),
        // In a deep network, a value that is just above or below the middle of two steps moves many others.
        ("preset = \"mobilenet_v2\"\nwidth = 0.5\ndepth = 0.5", 1.5),
    ] {
        let spec = format!("input = [3, 32, 32]\nclasses = 10\n{preset}");
        let spec = NetworkSpec::from_toml(&spec).unwrap();
        let weights = trained(&spec);
        let onnx = onnx::export(&spec, &weights).unwrap();
        let values = spec.input.elements();
        let ranges = calibrated(&onnx, values);
        let int8 = onnx::quantize(&onnx, |name| ranges.get(name).copied()).unwrap();
        let unseen = samples(values, 9);
        let [float, int8] = [&onnx, &int8].map(|model| {
            let mut session = Session::load(model, SessionOptions::default()).unwrap();
            session.run(&unseen, BATCH).unwrap()
        });

        let network = TorchNetwork::new(&spec, &weights, Device::Cpu).unwrap();
        let fake = FakeQuantizedNetwork::new(&network, &ranges).unwrap();
        let sizes = spec.input.dimensions().into_iter().map(|size| size as i64);
        let shape: Vec<_> = [BATCH as i64].into_iter().chain(sizes).collect();
        let input = Tensor::from_slice(&unseen).view(shape.as_slice());
        let logits = no_grad(|| fake.forward(&input)).unwrap();
        let logits: Vec<f32> = Vec::try_from(logits.reshape([-1])).unwrap();

        let [of_training, of_rounding] = [&logits, &float].map(|logits| error(logits, &int8));
        println!("{preset}: {of_training:.4} of training, {of_rounding:.4} of rounding");
        assert!(
            of_training < largest_share * of_rounding,
            "{preset}: {of_training} {of_rounding}"
        );
    }
}
