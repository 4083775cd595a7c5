//! Summary of the classes that top-k soft targets do not keep.

/// The classes R outside the k largest, summed up in two numbers.
///
/// A loss treats R as one more outcome, a tail bucket, so that the k kept classes and the bucket are
/// a proper distribution at any temperature T. Its unnormalized log-probability at T is
///
/// ```text
/// m(T) = log Σ_{j∈R} exp(z_j / T)
/// ```
///
/// which does not follow from m(1). [`log_mass_at`](Self::log_mass_at) estimates it from m(1) and the
/// mean μ of the logits in R: with n = |R| and c = m(1) − log n − μ,
///
/// ```text
/// m(T) ≈ log n + μ / T + c / T²
/// ```
///
/// These are the first two terms of the cumulant expansion of log(1/n Σ exp(s z_j)) in s = 1/T, the
/// second chosen such that s = 1 is met. So it is exact at T = 1, where T grows without bound, and
/// where the logits of R are normally distributed or all alike; in between it is an estimate. It is
/// kept within what holds for any R: for T ≥ 1, m(1)/T ≤ m(T) ≤ m(1)/T + (1 − 1/T) log n. (The
/// estimate never exceeds the upper bound; the lower one is met by one class that outweighs all
/// others of R. For T < 1 both are reversed.)
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TailBucket {
    /// m(1) = log Σ exp(z_j).
    pub log_mass: f32,
    /// μ, the mean of z_j.
    pub mean_logit: f32,
}

impl TailBucket {
    /// Size when encoded: two f32, little-endian, `log_mass` first.
    pub const BYTES: usize = 8;

    /// Summarizes `logits`, which must not be empty.
    pub fn of(logits: impl Iterator<Item = f32> + Clone) -> Self {
        let largest = logits.clone().fold(f32::NEG_INFINITY, f32::max);
        let (mut exponentials, mut sum, mut count) = (0.0, 0.0, 0.0);
        for logit in logits {
            exponentials += (f64::from(logit) - f64::from(largest)).exp();
            sum += f64::from(logit);
            count += 1.0;
        }
        Self {
            log_mass: (f64::from(largest) + exponentials.ln()) as f32,
            mean_logit: (sum / count) as f32,
        }
    }

    /// Estimates log Σ exp(z_j / T) over the `count` classes in the bucket; see the type.
    pub fn log_mass_at(self, temperature: f64, count: usize) -> f64 {
        let inverse = 1.0 / temperature;
        let [mass, mean] = [self.log_mass, self.mean_logit].map(f64::from);
        let log_count = (count as f64).ln();
        let curvature = mass - log_count - mean;
        let estimate = log_count + inverse * (mean + inverse * curvature);
        if temperature >= 1.0 {
            estimate.max(inverse * mass)
        } else {
            estimate.min(inverse * mass)
        }
    }

    pub(super) fn to_le_bytes(self) -> [u8; Self::BYTES] {
        let [a, b, c, d] = self.log_mass.to_le_bytes();
        let [e, f, g, h] = self.mean_logit.to_le_bytes();
        [a, b, c, d, e, f, g, h]
    }

    pub(super) fn from_le_bytes(bytes: &[u8; Self::BYTES]) -> Self {
        let [a, b, c, d, e, f, g, h] = *bytes;
        Self {
            log_mass: f32::from_le_bytes([a, b, c, d]),
            mean_logit: f32::from_le_bytes([e, f, g, h]),
        }
    }
}
