//! Correlations of probabilities.

use tch::{Kind, TchError, Tensor};

use crate::config::DistConfig;

/// Added to the product of the norms, as in the authors' code.
const EPSILON: f64 = 1e-8;

/// τ² (β (1 − ρ_inter) + γ (1 − ρ_intra)): Huang et al., NeurIPS 2022, "Knowledge Distillation from A Stronger
/// Teacher". ρ is Pearson's correlation of the probabilities softmax(z_s / τ) and softmax(z_t / τ): ρ_inter over the
/// classes, as a mean over the samples, and ρ_intra over the samples of the batch, as a mean over the classes.
/// `teacher` is f32 [batch, classes].
pub(super) fn dist(
    config: DistConfig,
    logits: &Tensor,
    teacher: &Tensor,
) -> Result<Tensor, TchError> {
    let DistConfig { beta, gamma, tau } = config;
    let softened = |logits: &Tensor| logits.f_div_scalar(tau)?.f_softmax(-1, Kind::Float);
    let (student, teacher) = (softened(logits)?, softened(teacher)?);
    let inter_class = correlation(&student, &teacher)?;
    let intra_class = correlation(&student.f_transpose(0, 1)?, &teacher.f_transpose(0, 1)?)?;
    // factor (1 − correlation)
    let relation = |factor: f64, correlation: Tensor| {
        let correlation = correlation.f_mul_scalar(-factor)?;
        correlation.f_add_scalar(factor)
    };
    let loss = relation(beta, inter_class)?.f_add(&relation(gamma, intra_class)?)?;
    loss.f_mul_scalar(tau * tau)
}

/// Mean over the rows of Pearson's correlation.
fn correlation(a: &Tensor, b: &Tensor) -> Result<Tensor, TchError> {
    let centered =
        |values: &Tensor| values.f_sub(&values.f_mean_dim([1i64].as_slice(), true, Kind::Float)?);
    let (a, b) = (centered(a)?, centered(b)?);
    let norm = |values: &Tensor| values.f_norm_scalaropt_dim(2.0, [1], false);
    let covariance = a.f_mul(&b)?;
    let covariance = covariance.f_sum_dim_intlist([1i64].as_slice(), false, Kind::Float)?;
    let norms = norm(&a)?.f_mul(&norm(&b)?)?.f_add_scalar(EPSILON)?;
    covariance.f_div(&norms)?.f_mean(Kind::Float)
}
