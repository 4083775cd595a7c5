//! Weighted transformed teacher matching.

use tch::{Kind, TchError, Tensor};

use super::kd::divergences;
use crate::engine::soft_targets::TeacherLogits;

/// U KL(p_t^γ / U ‖ p_s) with p = softmax(z) and U = Σ p_t^γ: Zheng and Yang, ICLR 2024 (arXiv 2402.11148),
/// "Knowledge Distillation Based on Transformed Teacher Matching". The power γ is the temperature 1/γ of the teacher;
/// the student has none, so there is no T². U gives samples with a flat target more weight.
pub(super) fn wttm(
    logits: &Tensor,
    teacher: &TeacherLogits,
    gamma: f64,
) -> Result<Tensor, TchError> {
    let student = teacher.of_student(logits.f_log_softmax(-1, Kind::Float)?)?;
    let powers = teacher.softened(1.0 / gamma)?;
    let normalizer = teacher.softened(1.0)?.f_logsumexp([1], true)?;
    let log_weight = powers
        .f_logsumexp([1], true)?
        .f_sub(&normalizer.f_mul_scalar(gamma)?)?;
    let target = powers.f_log_softmax(-1, Kind::Float)?;
    let weighted = divergences(&target, &student)?.f_mul(&log_weight.f_exp()?)?;
    let batch = logits.size()[0] as f64;
    weighted.f_sum(Kind::Float)?.f_mul_scalar(1.0 / batch)
}
