//! Models in int8 on the real ONNX Runtime.

use networks::{
    NetworkSpec, WeightTensor, Weights,
    onnx::{self, QuantizeError, Standardization},
};
use onnx_runtime::{Calibration, Latency, Limits, Session, SessionOptions, check_model};

/// Samples of a batch.
const BATCH: usize = 16;

/// Weights as after training: biases and the statistics of batch-norm are not those of the start.
fn trained(spec: &NetworkSpec) -> Weights {
    let weights = Weights::initial(spec, 7).unwrap();
    let mut count = 0u32;
    let mut between = |low: f32, high: f32| {
        count = count.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        low + (high - low) * (count >> 8) as f32 / (1 << 24) as f32
    };
    let tensors: Vec<_> = weights
        .iter()
        .map(|(name, tensor)| {
            let WeightTensor { shape, mut data } = tensor.clone();
            let is_norm = shape.len() == 1 && name.ends_with("weight");
            for value in &mut data {
                match name.rsplit('.').next() {
                    Some("bias") => *value = between(-0.1, 0.1),
                    Some("running_mean") => *value = between(-0.2, 0.2),
                    Some("running_var") => *value = between(0.5, 1.5),
                    _ if is_norm => *value = between(0.5, 1.5),
                    _ => {}
                }
            }
            (name.to_owned(), WeightTensor { shape, data })
        })
        .collect();
    Weights::from_tensors(tensors, spec).unwrap()
}

/// Smooth values around 0, others for each `batch`.
fn samples(values: usize, batch: usize) -> Vec<f32> {
    let values = 0..BATCH * values;
    let positions = values.map(|position| position as f32 + 1000.0 * batch as f32);
    positions
        .map(|x| (x * 0.37).sin() + 0.7 * (x * 0.011).cos())
        .collect()
}

/// The model in int8, calibrated on the first batches.
fn quantized(onnx: &[u8], values: usize) -> Vec<u8> {
    let mut calibration = Calibration::load(onnx).unwrap();
    for batch in 0..4 {
        calibration.observe(&samples(values, batch), BATCH).unwrap();
    }
    quantize(onnx, calibration).unwrap()
}

fn quantize(onnx: &[u8], calibration: Calibration) -> Result<Vec<u8>, QuantizeError> {
    let ranges = calibration.into_ranges();
    onnx::quantize(onnx, |name| ranges.get(name).copied())
}

/// Distance of the logits from those in f32, as a share of the standard deviation of the latter.
fn error(float: &[f32], int8: &[f32]) -> f32 {
    let count = float.len() as f32;
    let mean = float.iter().sum::<f32>() / count;
    let variance = float.iter().map(|x| (x - mean).powi(2)).sum::<f32>();
    let distance = float
        .iter()
        .zip(int8)
        .map(|(a, b)| (a - b).powi(2))
        .sum::<f32>();
    (distance / variance).sqrt()
}

#[test]
fn int8_models_of_every_family_are_small_pass_the_checks_and_agree_with_f32() {
    for (preset, input) in [
        ("cnn", "[3, 32, 32]"),
        ("resnet", "[3, 32, 32]"),
        ("mobilenet_v2", "[3, 32, 32]"),
        ("efficientnet_lite", "[3, 32, 32]"),
        ("mlp", "[40]"),
    ] {
        let spec = format!(
            "input = {input}\nclasses = 10\npreset = \"{preset}\"\nwidth = 1.0\ndepth = 1.0"
        );
        let spec = NetworkSpec::from_toml(&spec).unwrap();
        let onnx = onnx::export(&spec, &trained(&spec)).unwrap();
        let values = spec.input.elements();
        let int8 = quantized(&onnx, values);
        assert_eq!(int8, quantized(&onnx, values), "{preset}");
        let checked = check_model(&int8, &Limits::default()).unwrap();
        assert_eq!(checked.interface.sample, spec.input.dimensions());
        let sizes = [&onnx, &int8].map(|model| model.len() as f32);
        let unseen = samples(values, 9);
        let models = [&onnx, &int8];
        let [float, int8] = models.map(|model| {
            let mut session = Session::load(model, SessionOptions::default()).unwrap();
            session.run(&unseen, BATCH).unwrap()
        });
        let error = error(&float, &int8);
        let times = models.map(|model| Latency::measure(model).unwrap().median);
        println!("{preset}: error {error:.3}, {sizes:?} bytes, {times:.0?} µs");
        assert!(error < 0.25 && error > 0.0, "{preset}: {error}");
        // Nodes and scales take a part of small files.
        assert!(sizes[1] < 0.6 * sizes[0], "{preset}: {sizes:?}");
    }
}

#[test]
fn rows_are_standardized_before_they_are_rounded() {
    let spec = "input = [3]\nclasses = 2\npreset = \"mlp\"\nwidths = [16]";
    let spec = NetworkSpec::from_toml(spec).unwrap();
    let weights = trained(&spec);
    // One value is a thousand times as large as the others.
    let standardization = Standardization {
        mean: &[1000.0, 0.0, -3.0],
        std: &[250.0, 0.1, 0.125],
    };
    let onnx = onnx::export_standardized(&spec, &weights, standardization).unwrap();
    let rows = |batch: usize| -> Vec<f32> {
        let plain = samples(3, batch);
        let Standardization { mean, std } = standardization;
        let raw = plain.iter().enumerate();
        raw.map(|(position, x)| x * std[position % 3] + mean[position % 3])
            .collect()
    };
    let mut calibration = Calibration::load(&onnx).unwrap();
    for batch in 0..4 {
        calibration.observe(&rows(batch), BATCH).unwrap();
    }
    let int8 = quantize(&onnx, calibration).unwrap();
    let [float, int8] = [&onnx, &int8].map(|model| {
        let mut session = Session::load(model, SessionOptions::default()).unwrap();
        session.run(&rows(9), BATCH).unwrap()
    });
    let error = error(&float, &int8);
    assert!(error < 0.1, "{error}");
}

#[test]
fn a_calibration_without_samples_or_with_other_samples_is_an_error() {
    let spec = "input = [1, 8, 8]\nclasses = 3\npreset = \"cnn\"\nwidths = [4]";
    let spec = NetworkSpec::from_toml(spec).unwrap();
    let onnx = onnx::export(&spec, &Weights::initial(&spec, 1).unwrap()).unwrap();
    let mut calibration = Calibration::load(&onnx).unwrap();
    let error = calibration.observe(&[0.0; 65], 1).unwrap_err().to_string();
    assert!(
        error.contains("65 values for a batch of 1, expected 64"),
        "{error}"
    );
    let error = quantize(&onnx, calibration).unwrap_err().to_string();
    assert!(error.contains("`layers.2.output` is not known"), "{error}");
    assert!(Calibration::load(b"no model").is_err());
}
