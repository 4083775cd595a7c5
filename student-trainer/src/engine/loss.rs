//! Losses. z_s and z_t are the logits of student and teacher, y the hard labels,
//! T the temperature; every loss is a mean over the batch. Sums are over the outcomes: all classes, or
//! with top-k soft targets the classes that were kept and a tail bucket ([`TeacherLogits`]).

use tch::{Kind, Reduction, TchError, Tensor};

use super::{mixed_labels::MixedTargets, soft_targets::TeacherLogits};
use crate::config::LossConfig;

/// The targets of a batch.
#[derive(Debug)]
pub struct Targets<'t> {
    /// i64 [batch]
    pub labels: &'t Tensor,
    /// The other labels of mixed samples.
    pub mixed: Option<&'t MixedTargets>,
    /// The teacher's logits, if the loss needs them.
    pub soft_targets: Option<&'t TeacherLogits>,
}

/// The loss of `logits`, f32 [batch, classes], as a scalar that supports back-propagation.
///
/// # Errors
/// If soft targets are missing, or if libtorch fails.
pub fn loss(
    config: LossConfig,
    logits: &Tensor,
    targets: &Targets<'_>,
) -> Result<Tensor, TchError> {
    match config {
        LossConfig::CrossEntropy {} => cross_entropy(logits, targets),
        LossConfig::SoftCrossEntropy { temperature } => {
            soft_cross_entropy(logits, soft_targets(targets)?, temperature)
        }
        LossConfig::Kd { temperature, alpha } => {
            let soft = divergence(logits, soft_targets(targets)?, temperature)?;
            let hard = cross_entropy(logits, targets)?;
            let soft = soft.f_mul_scalar(alpha)?;
            soft.f_add(&hard.f_mul_scalar(1.0 - alpha)?)
        }
    }
}

fn soft_targets<'t>(targets: &Targets<'t>) -> Result<&'t TeacherLogits, TchError> {
    targets
        .soft_targets
        .ok_or_else(|| TchError::Shape("the loss needs soft targets".to_owned()))
}

/// −log softmax(z_s)[y]; of mixed samples, the weighted mean for both labels.
fn cross_entropy(logits: &Tensor, targets: &Targets<'_>) -> Result<Tensor, TchError> {
    let log_probabilities = logits.f_log_softmax(-1, Kind::Float)?;
    let negative_log = |labels: &Tensor, reduction| {
        log_probabilities.f_nll_loss(labels, None::<&Tensor>, reduction, -100)
    };
    match targets.mixed {
        None => negative_log(targets.labels, Reduction::Mean),
        Some(mixed) => mixed.mean(targets.labels, |labels| {
            negative_log(labels, Reduction::None)
        }),
    }
}

/// −T² Σ softmax(z_t / T) log softmax(z_s / T)
fn soft_cross_entropy(
    logits: &Tensor,
    teacher: &TeacherLogits,
    temperature: f64,
) -> Result<Tensor, TchError> {
    let student = teacher.of_student(softened(logits, temperature)?)?;
    let teacher = teacher.softened(temperature)?.f_softmax(-1, Kind::Float)?;
    // Sum over outcomes, mean over the batch: a mean over both would also divide by the classes.
    let batch = logits.size()[0] as f64;
    let sum = teacher.f_mul(&student)?.f_sum(Kind::Float)?;
    sum.f_mul_scalar(-temperature * temperature / batch)
}

/// T² KL(softmax(z_t / T) ‖ softmax(z_s / T)): Hinton et al. 2015, "Distilling the Knowledge in a
/// Neural Network", section 2.
fn divergence(
    logits: &Tensor,
    teacher: &TeacherLogits,
    temperature: f64,
) -> Result<Tensor, TchError> {
    let student = teacher.of_student(softened(logits, temperature)?)?;
    let teacher = teacher
        .softened(temperature)?
        .f_log_softmax(-1, Kind::Float)?;
    let batch = logits.size()[0] as f64;
    let difference = teacher.f_sub(&student)?;
    let sum = teacher.f_exp()?.f_mul(&difference)?.f_sum(Kind::Float)?;
    sum.f_mul_scalar(temperature * temperature / batch)
}

/// log softmax(z / T)
fn softened(logits: &Tensor, temperature: f64) -> Result<Tensor, TchError> {
    logits
        .f_div_scalar(temperature)?
        .f_log_softmax(-1, Kind::Float)
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;
    use soft_targets::{Encoder, Encoding};

    use super::*;

    #[derive(Deserialize)]
    struct Golden {
        name: String,
        loss: LossConfig,
        student: Vec<Vec<f32>>,
        teacher: Vec<Vec<f32>>,
        /// How the teacher's logits are encoded on their way.
        encoding: Encoding,
        labels: Vec<i64>,
        value: f64,
        gradient: Vec<Vec<f32>>,
    }

    fn golden() -> Vec<Golden> {
        serde_json::from_str(include_str!("../../tests/golden/losses.json")).unwrap()
    }

    fn matrix(rows: &[Vec<f32>]) -> Tensor {
        Tensor::from_slice2(rows)
    }

    fn teacher(rows: &[Vec<f32>], encoding: Encoding) -> TeacherLogits {
        let mut encoder = Encoder::default();
        let targets = encoder.encode(encoding, &rows.concat(), rows[0].len());
        TeacherLogits::new(&targets.unwrap()).unwrap()
    }

    #[test]
    fn values_and_gradients_are_pytorchs() {
        let cases = golden();
        assert!(cases.len() >= 15);
        for case in cases {
            let logits = matrix(&case.student).set_requires_grad(true);
            let targets = Targets {
                labels: &Tensor::from_slice(&case.labels),
                mixed: None,
                soft_targets: Some(&teacher(&case.teacher, case.encoding)),
            };
            let value = loss(case.loss, &logits, &targets).unwrap();
            let found = value.double_value(&[]);
            let close = (found - case.value).abs() <= 1e-6 + 1e-5 * case.value.abs();
            assert!(close, "{}: {found} is not {}", case.name, case.value);
            let gradient = &Tensor::run_backward(&[value], &[&logits], false, false)[0];
            let difference = (gradient - matrix(&case.gradient)).abs().max();
            let difference = difference.double_value(&[]);
            assert!(
                difference <= 1e-6,
                "{}: gradients differ by {difference}",
                case.name
            );
        }
    }

    #[test]
    fn soft_cross_entropy_differs_from_the_divergence_by_the_teachers_entropy_alone() {
        let case = &golden()[0];
        let student = matrix(&case.student);
        let teacher = teacher(&case.teacher, Encoding::F32);
        let entropy = soft_cross_entropy(&matrix(&case.teacher), &teacher, 3.0).unwrap();
        let soft = soft_cross_entropy(&student, &teacher, 3.0).unwrap();
        let divergence = divergence(&student, &teacher, 3.0).unwrap();
        let difference = (soft - entropy - divergence).double_value(&[]).abs();
        assert!(difference < 1e-5, "{difference}");
    }

    #[test]
    fn top_k_that_keeps_every_class_gives_the_bits_of_f32() {
        for case in golden() {
            let [dense, all] = ["f32", "top-4-f32"].map(|encoding| {
                let logits = matrix(&case.student).set_requires_grad(true);
                let targets = Targets {
                    labels: &Tensor::from_slice(&case.labels),
                    mixed: None,
                    soft_targets: Some(&teacher(&case.teacher, encoding.parse().unwrap())),
                };
                let value = loss(case.loss, &logits, &targets).unwrap();
                let bits = value.double_value(&[]).to_bits();
                let gradient = &Tensor::run_backward(&[value], &[&logits], false, false)[0];
                (bits, Vec::<f32>::try_from(gradient.reshape([-1])).unwrap())
            });
            assert_eq!(dense, all, "{}", case.name);
        }
    }

    #[test]
    fn mixed_labels_give_the_cross_entropy_with_their_probabilities() {
        let case = &golden()[0];
        let mixed = datasets::MixedLabels {
            labels: vec![3, 1, 0, 2, 2],
            weights: vec![0.0, 0.125, 0.25, 0.5, 0.3],
        };
        let labels = Tensor::from_slice(&case.labels);
        let one_hot = |labels: &Tensor| labels.one_hot(4).to_kind(Kind::Float);
        let weights = Tensor::from_slice(&mixed.weights).unsqueeze(1);
        let others = one_hot(&Tensor::from_slice(&mixed.labels)) * &weights;
        let probabilities = one_hot(&labels) * (1.0 - weights) + others;
        let values = |loss_of: &dyn Fn(&Tensor) -> Tensor| {
            let logits = matrix(&case.student).set_requires_grad(true);
            let value = loss_of(&logits);
            let number = value.double_value(&[]);
            let gradient = Tensor::run_backward(&[value], &[&logits], false, false);
            (number, gradient[0].shallow_clone())
        };
        let (expected, expected_gradient) = values(&|logits| {
            let weighted = logits.log_softmax(-1, Kind::Float) * &probabilities;
            -weighted.sum(Kind::Float) / case.labels.len() as f64
        });
        let targets = Targets {
            labels: &labels,
            mixed: Some(&MixedTargets::new(&mixed).unwrap()),
            soft_targets: None,
        };
        let config = LossConfig::CrossEntropy {};
        let (found, gradient) = values(&|logits| loss(config, logits, &targets).unwrap());
        assert!((found - expected).abs() < 1e-6, "{found} {expected}");
        let difference = (gradient - expected_gradient).abs().max();
        assert!(difference.double_value(&[]) < 1e-6);
    }

    #[test]
    fn a_loss_without_its_soft_targets_is_an_error() {
        let targets = Targets {
            labels: &Tensor::from_slice(&[0_i64]),
            mixed: None,
            soft_targets: None,
        };
        let logits = Tensor::from_slice2(&[[0.0_f32, 1.0]]);
        let config = LossConfig::SoftCrossEntropy { temperature: 2.0 };
        assert!(loss(config, &logits, &targets).is_err());
    }
}
