//! Backends opened in the test's process.

use bytes::Bytes;
use common::compute::{DeviceChoice, PrecisionChoice};
use teacher_service::{
    backend::{self, Backend, LoadError},
    batch::{Batch, Input},
    config::ComputeConfig,
    libtorch_environment::CpuIsa,
    model::ModelConfig,
};

/// Opens a model on one CPU thread, in f32: other processors would compute Retort's networks in bf16.
pub fn open(config: &ModelConfig) -> Result<Box<dyn Backend>, LoadError> {
    let compute = ComputeConfig {
        threads: 1,
        precision: PrecisionChoice::F32,
        cpu_isa: CpuIsa::Auto,
        device: DeviceChoice::Cpu,
    };
    backend::open(config, &compute)
}

/// Why a model cannot be opened.
pub fn refusal(config: &ModelConfig) -> String {
    match open(config) {
        Ok(_) => panic!("it is accepted"),
        Err(error) => error.to_string(),
    }
}

/// The logits of images, [samples × classes].
pub fn logits(backend: &mut dyn Backend, pixels: &[u8]) -> Vec<f32> {
    let sample = backend.description().input.dimensions.sample_values();
    let batch = Batch {
        samples: pixels.len() / sample.unwrap(),
        input: Input::U8(Bytes::copy_from_slice(pixels)),
    };
    backend.logits(&batch).unwrap()
}

/// Panics unless the values agree to 1e-4 of themselves, or of 1.
pub fn assert_close(found: &[f32], expected: &[f32]) {
    assert_eq!(found.len(), expected.len());
    for (found, expected) in found.iter().zip(expected) {
        let near = (found - expected).abs() <= 1e-4 * expected.abs().max(1.0);
        assert!(near, "{found} is not {expected}");
    }
}
