//! Losses on softened probabilities: Hinton et al. 2015, "Distilling the Knowledge in a Neural Network", section 2.

use tch::{Kind, TchError, Tensor};

use crate::engine::soft_targets::TeacherLogits;

/// −T² Σ softmax(z_t / T) log softmax(z_s / T). It is linear in the teacher's probabilities, so with the shares of
/// drawn classes in their place, value and gradient are unbiased estimates.
pub(super) fn soft_cross_entropy(
    logits: &Tensor,
    teacher: &TeacherLogits,
    temperature: f64,
) -> Result<Tensor, TchError> {
    let student = teacher.of_student(softened(logits, temperature)?)?;
    let teacher = teacher.probabilities(temperature)?;
    // Sum over outcomes, mean over the batch: a mean over both would also divide by the classes.
    let batch = logits.size()[0] as f64;
    let sum = teacher.f_mul(&student)?.f_sum(Kind::Float)?;
    sum.f_mul_scalar(-temperature * temperature / batch)
}

/// T² KL(softmax(z_t / T) ‖ softmax(z_s / T)). Drawn classes do not tell the teacher's entropy, a constant without
/// a gradient: with them, the value is the soft cross-entropy, which leaves it out.
pub(super) fn kd(
    logits: &Tensor,
    teacher: &TeacherLogits,
    temperature: f64,
) -> Result<Tensor, TchError> {
    if let TeacherLogits::Drawn(_) = teacher {
        return soft_cross_entropy(logits, teacher, temperature);
    }
    let student = teacher.of_student(softened(logits, temperature)?)?;
    let teacher = teacher
        .softened(temperature)?
        .f_log_softmax(-1, Kind::Float)?;
    let batch = logits.size()[0] as f64;
    let sum = divergences(&teacher, &student)?.f_sum(Kind::Float)?;
    sum.f_mul_scalar(temperature * temperature / batch)
}

/// The summands p_t (log p_t − log p_s) of KL(p_t ‖ p_s), from log-probabilities of one shape.
pub(super) fn divergences(teacher: &Tensor, student: &Tensor) -> Result<Tensor, TchError> {
    let difference = teacher.f_sub(student)?;
    teacher.f_exp()?.f_mul(&difference)
}

/// log softmax(z / T)
fn softened(logits: &Tensor, temperature: f64) -> Result<Tensor, TchError> {
    logits
        .f_div_scalar(temperature)?
        .f_log_softmax(-1, Kind::Float)
}
