//! The levels of multi-level logit distillation: Jin et al., CVPR 2023, "Multi-Level Logit Distillation". Each is a
//! mean over temperatures; the paper's sum is that times their number. p_s and p_t are the softened probabilities.

use tch::{Kind, TchError, Tensor};

use super::kd::kd;
use crate::engine::soft_targets::TeacherLogits;

/// Instance level: T² KL(p_t ‖ p_s).
pub(super) fn instance_level(
    logits: &Tensor,
    teacher: &TeacherLogits,
    temperatures: &[f64],
) -> Result<Tensor, TchError> {
    mean(temperatures, |temperature| kd(logits, teacher, temperature))
}

/// Batch level: ‖p_t p_tᵀ − p_s p_sᵀ‖² / B with the matrices p of [B samples, classes]. `teacher` is f32 [batch,
/// classes].
pub(super) fn batch_level(
    logits: &Tensor,
    teacher: &Tensor,
    temperatures: &[f64],
) -> Result<Tensor, TchError> {
    similarity_level(logits, teacher, temperatures, |probabilities| {
        probabilities.f_matmul(&probabilities.f_transpose(0, 1)?)
    })
}

/// Class level: ‖p_tᵀ p_t − p_sᵀ p_s‖² / C with the matrices p of [samples, C classes]; it grows with the square of
/// the batch. `teacher` is f32 [batch, classes].
pub(super) fn class_level(
    logits: &Tensor,
    teacher: &Tensor,
    temperatures: &[f64],
) -> Result<Tensor, TchError> {
    similarity_level(logits, teacher, temperatures, |probabilities| {
        probabilities.f_transpose(0, 1)?.f_matmul(probabilities)
    })
}

/// The distance of the teacher's similarities from the student's; `similarities` computes a square matrix from
/// probabilities [batch, classes].
fn similarity_level(
    logits: &Tensor,
    teacher: &Tensor,
    temperatures: &[f64],
    similarities: impl Fn(&Tensor) -> Result<Tensor, TchError>,
) -> Result<Tensor, TchError> {
    mean(temperatures, |temperature| {
        let teacher = similarities(&softened(teacher, temperature)?)?;
        let student = similarities(&softened(logits, temperature)?)?;
        distance(&teacher, &student)
    })
}

fn mean(
    temperatures: &[f64],
    level: impl Fn(f64) -> Result<Tensor, TchError>,
) -> Result<Tensor, TchError> {
    let values: Vec<_> = temperatures
        .iter()
        .map(|temperature| level(*temperature))
        .collect::<Result<_, _>>()?;
    Tensor::f_stack(&values, 0)?.f_mean(Kind::Float)
}

/// softmax(z / T)
fn softened(logits: &Tensor, temperature: f64) -> Result<Tensor, TchError> {
    logits.f_div_scalar(temperature)?.f_softmax(-1, Kind::Float)
}

/// Squared Frobenius norm of the difference of two square matrices, divided by their number of rows.
fn distance(a: &Tensor, b: &Tensor) -> Result<Tensor, TchError> {
    let squares = a.f_sub(b)?.f_square()?.f_sum(Kind::Float)?;
    squares.f_div_scalar(a.size()[0])
}
