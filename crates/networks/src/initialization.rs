//! Initial values of weight tensors.

use rand_chacha::{
    ChaCha8Rng,
    rand_core::{Rng, SeedableRng},
};
use sha2::{Digest, Sha256};

use crate::{TensorRole, TensorSpec};

/// A tensor's initial values: a pure function of the seed and the tensor's name and shape.
pub(crate) fn values(tensor: &TensorSpec, seed: u64) -> Vec<f32> {
    let mut random = stream(seed, &tensor.name);
    let count = tensor.elements();
    match tensor.role {
        TensorRole::ConvWeight { fan_out } => {
            // He et al. 2015, "Delving Deep into Rectifiers": torch's kaiming_normal_(mode="fan_out").
            // For grouped convolutions fan-out counts the outputs of one group; torch counts those of all groups.
            let deviation = (2.0 / fan_out as f64).sqrt();
            (0..count)
                .map(|_| (standard_normal(&mut random) * deviation) as f32)
                .collect()
        }
        TensorRole::Linear { fan_in } => {
            // torch.nn.Linear: kaiming_uniform_(a=√5) gives this bound for the weight; the bias uses the same bound.
            let bound = 1.0 / (fan_in as f64).sqrt();
            (0..count)
                .map(|_| ((2.0 * uniform(&mut random) - 1.0) * bound) as f32)
                .collect()
        }
        TensorRole::Scale | TensorRole::RunningVariance => vec![1.0; count],
        TensorRole::ConvBias | TensorRole::Shift | TensorRole::RunningMean => vec![0.0; count],
    }
}

fn stream(seed: u64, name: &str) -> ChaCha8Rng {
    let digest = Sha256::new()
        .chain_update(b"initial weights")
        .chain_update(seed.to_le_bytes())
        .chain_update(name);
    ChaCha8Rng::from_seed(digest.finalize().into())
}

/// A uniform number in [0, 1) with 53 random bits.
fn uniform(random: &mut ChaCha8Rng) -> f64 {
    (random.next_u64() >> 11) as f64 / (1u64 << 53) as f64
}

/// A standard normal number by the transform of Box and Muller (1958).
fn standard_normal(random: &mut ChaCha8Rng) -> f64 {
    let radius = (-2.0 * (1.0 - uniform(random)).ln()).sqrt();
    radius * (std::f64::consts::TAU * uniform(random)).cos()
}
