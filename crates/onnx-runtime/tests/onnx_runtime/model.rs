//! Files of other programs in the real ONNX Runtime.

use std::path::{Path, PathBuf};

use common::compute::DeviceChoice;
use onnx_runtime::{OnnxModel, OnnxModelError, OnnxOptions, Values};

const ON_CPU: OnnxOptions = OnnxOptions {
    threads: 1,
    device: DeviceChoice::Cpu,
};

/// Written by scripts/golden/gradient_boosting.py with skl2onnx 1.20.0.
fn gradient_boosting() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/onnx_runtime/gradient_boosting.onnx")
}

/// Rows of the iris data set, and the probabilities that onnxruntime 1.32.0 in Python gives them.
const ROWS: [f32; 16] = [
    5.1, 3.5, 1.4, 0.2, 5.0, 2.0, 3.5, 1.0, 6.5, 3.2, 5.1, 2.0, 5.9, 3.0, 5.1, 1.8,
];
const PROBABILITIES: [f32; 12] = [
    0.524_994_85,
    0.237_231_93,
    0.237_773_21,
    0.243_678_2,
    0.511_790_04,
    0.244_531_75,
    0.236_377_52,
    0.245_812_03,
    0.517_810_46,
    0.236_377_52,
    0.245_812_03,
    0.517_810_46,
];

#[test]
fn a_classifier_of_scikit_learn_is_described_and_run() {
    let mut model = OnnxModel::open(&gradient_boosting(), ON_CPU).expect("it loads");
    assert_eq!(
        model.signature().to_string(),
        "`X` FP32 [batch, 4] -> `label` INT64 [batch], `probabilities` FP32 [batch, 3]"
    );
    let summary = model.summary();
    assert_eq!(summary.producer, "skl2onnx 1.20.0");
    assert_eq!(summary.opsets.get("ai.onnx.ml"), Some(&1));
    assert_eq!(summary.opsets.get(""), Some(&17));
    let trees = "ai.onnx.ml.TreeEnsembleClassifier";
    assert_eq!(summary.operators.get(trees), Some(&1));
    assert!(
        model.numerics().starts_with("cpu ("),
        "{}",
        model.numerics()
    );
    for size in [1, 3, 4] {
        let mut found = Vec::new();
        for rows in ROWS.chunks(size * 4) {
            let samples = rows.len() / 4;
            let part = model.run("probabilities", Values::F32(rows), &[4], samples);
            found.extend(part.expect("it runs"));
        }
        assert_eq!(found.len(), 12);
        for (found, expected) in found.iter().zip(PROBABILITIES) {
            assert!((found - expected).abs() < 1e-6, "{found} {expected}");
        }
    }
}

#[test]
fn what_the_model_does_not_take_is_refused() {
    let mut model = OnnxModel::open(&gradient_boosting(), ON_CPU).expect("it loads");
    let rows = Values::F32(&ROWS);
    for (output, sample, samples, named) in [
        ("probabilities", &[4][..], 3, "16 values for 3 samples"),
        (
            "probabilities",
            &[2, 2],
            4,
            "the model takes `X` FP32 [batch, 4]",
        ),
        ("probabilities", &[4], 0, "for 0 samples"),
        ("probabilities", &[8], 2, "cannot run the model"),
        ("label", &[4], 4, "cannot run the model"),
        ("missing", &[4], 4, "cannot run the model"),
    ] {
        let error = model.run(output, rows, sample, samples);
        let error = error.expect_err("it is refused").to_string();
        assert!(error.contains(named), "{output} {sample:?}: {error}");
    }
}

#[test]
fn a_gpu_that_is_not_there_is_named() {
    let options = OnnxOptions {
        device: DeviceChoice::Cuda(99),
        ..ON_CPU
    };
    let error = OnnxModel::open(&gradient_boosting(), options).expect_err("it is refused");
    assert!(matches!(error, OnnxModelError::Device(_)), "{error}");
    assert!(error.to_string().contains("cuda:99"), "{error}");
    let options = OnnxOptions {
        device: DeviceChoice::Auto,
        ..ON_CPU
    };
    OnnxModel::open(&gradient_boosting(), options).expect("it takes the CPU");
}
