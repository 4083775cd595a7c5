//! The probe: a batch that is the same for every teacher with the same input.

use bytes::Bytes;
use common::digest::Sha256;
use tensors::{DataType, TensorSpec};

use crate::batch::{Batch, Input};

/// Samples in the probe. Libraries compute very small batches with other kernels.
const SAMPLES: usize = 16;

/// The digest of the probe's outputs as little-endian f32.
pub(super) fn digest(outputs: &[f32]) -> String {
    let bytes: Vec<u8> = outputs
        .iter()
        .flat_map(|value| value.to_le_bytes())
        .collect();
    Sha256::of(&bytes).to_string()
}

/// Values that look random, from 0 to 250, and whole: models may take integers.
pub(crate) fn batch(input: &TensorSpec) -> Batch {
    let count = SAMPLES * input.dimensions.sample_values().unwrap_or_default();
    let bytes = (0..count as u32).map(|index| {
        // Multiplicative hashing (Knuth, The Art of Computer Programming 3, 6.4).
        (index.wrapping_mul(2_654_435_761) >> 16) as u8 % 251
    });
    let input = match input.data_type {
        DataType::Uint8 => Input::U8(Bytes::from_iter(bytes)),
        _ => Input::F32(bytes.map(f32::from).collect()),
    };
    Batch {
        samples: SAMPLES,
        input,
    }
}
