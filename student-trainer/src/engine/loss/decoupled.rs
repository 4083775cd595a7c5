//! Losses that part the label from the other classes: decoupled knowledge distillation and its refinement.

use tch::{Kind, TchError, Tensor};

use super::kd::divergences;
use crate::config::{DkdConfig, RldConfig};

/// Below every logit. It is finite, so that a sample without other classes contributes 0 and not NaN.
const MASKED: f64 = -1e9;

/// T² (α TCKD + β NCKD): Zhao et al., CVPR 2022, "Decoupled Knowledge Distillation". With the probabilities p at
/// temperature T and the label y, TCKD is the divergence of (p\[y\], 1 − p\[y\]), and NCKD that of the softmax over
/// all classes but y. `teacher` is f32 [batch, classes]. α = β = 1 is not `kd`, which weighs NCKD by the teacher's
/// 1 − p\[y\].
pub(super) fn dkd(
    config: DkdConfig,
    logits: &Tensor,
    teacher: &Tensor,
    labels: &Tensor,
) -> Result<Tensor, TchError> {
    let DkdConfig {
        temperature,
        alpha,
        beta,
        ..
    } = config;
    let label = labels.f_unsqueeze(1)?;
    let student = logits.f_div_scalar(temperature)?;
    let teacher = teacher.f_div_scalar(temperature)?;
    let of_label = divergences(
        &one_against_rest(&teacher, &label)?,
        &one_against_rest(&student, &label)?,
    )?;
    let is_label = teacher
        .f_zeros_like()?
        .f_scatter_value(1, &label, 1.0)?
        .f_to_kind(Kind::Bool)?;
    let among_others = divergences(&others(&teacher, &is_label)?, &others(&student, &is_label)?)?;
    let of_label = of_label.f_sum(Kind::Float)?.f_mul_scalar(alpha)?;
    let among_others = among_others.f_sum(Kind::Float)?.f_mul_scalar(beta)?;
    let batch = logits.size()[0] as f64;
    let sum = of_label.f_add(&among_others)?;
    sum.f_mul_scalar(temperature * temperature / batch)
}

/// α τ² SCD + β T² MCD: Sun et al., ICCV 2025 (arXiv 2408.07703), "Knowledge Distillation with Refined Logits". SCD
/// (sample confidence) is the divergence of the student's (p\[y\], 1 − p\[y\]) from the teacher's (max p, 1 − max p)
/// at the confidence temperature τ, so that the teacher's confidence counts even if its answer is wrong. MCD (masked
/// correlation) is the divergence of the softmax over the classes to which the teacher gives a lower logit than to
/// the label y, at temperature T. `teacher` is f32 [batch, classes].
pub(super) fn rld(
    config: RldConfig,
    logits: &Tensor,
    teacher: &Tensor,
    labels: &Tensor,
) -> Result<Tensor, TchError> {
    let RldConfig {
        temperature,
        confidence_temperature,
        alpha,
        beta,
        ..
    } = config;
    let label = labels.f_unsqueeze(1)?;
    let answer = teacher.f_argmax(1, true)?;
    let softened = |logits: &Tensor| logits.f_div_scalar(confidence_temperature);
    let confidence = divergences(
        &one_against_rest(&softened(teacher)?, &answer)?,
        &one_against_rest(&softened(logits)?, &label)?,
    )?;
    let mask = teacher.f_ge_tensor(&teacher.f_gather(1, &label, false)?)?;
    let softened = |logits: &Tensor| logits.f_div_scalar(temperature);
    let correlation = divergences(
        &others(&softened(teacher)?, &mask)?,
        &others(&softened(logits)?, &mask)?,
    )?;
    let batch = logits.size()[0] as f64;
    let scale = |factor: f64, temperature: f64| factor * temperature * temperature / batch;
    let confidence = confidence.f_sum(Kind::Float)?;
    let confidence = confidence.f_mul_scalar(scale(alpha, confidence_temperature))?;
    let correlation = correlation.f_sum(Kind::Float)?;
    confidence.f_add(&correlation.f_mul_scalar(scale(beta, temperature))?)
}

/// Log-probabilities of `class`, i64 [batch, 1], and of all other classes together: f32 [batch, 2].
fn one_against_rest(logits: &Tensor, class: &Tensor) -> Result<Tensor, TchError> {
    let log_probabilities = logits.f_log_softmax(-1, Kind::Float)?;
    let one = log_probabilities.f_gather(1, class, false)?;
    // Not log(1 − p), which loses all digits if p is close to 1.
    let rest = log_probabilities.f_scatter_value(1, class, f64::NEG_INFINITY)?;
    Tensor::f_cat(&[one, rest.f_logsumexp([1], true)?], 1)
}

/// Log-probabilities among the classes outside of `mask`, bool [batch, classes]; the others have probability 0.
fn others(logits: &Tensor, mask: &Tensor) -> Result<Tensor, TchError> {
    let masked = logits.f_masked_fill(mask, MASKED)?;
    masked.f_log_softmax(-1, Kind::Float)
}
