//! Losses: a weighted sum of terms. z_s and z_t are the logits of student and teacher, y the hard labels,
//! T the temperature; every term is a mean over the batch. Sums are over the outcomes: all classes, or
//! with top-k soft targets the classes that were kept and a tail bucket, with sampled ones the draws
//! ([`TeacherLogits`]).

mod cross_entropy;
mod decoupled;
mod dist;
mod kd;
mod mlkd;
mod standardized;
mod wttm;

use tch::{Reduction, TchError, Tensor};

use self::{
    cross_entropy::cross_entropy,
    decoupled::{dkd, rld},
    dist::dist,
    kd::{kd, soft_cross_entropy},
    mlkd::{batch_level, class_level, instance_level},
    standardized::standardized,
    wttm::wttm,
};
use super::{mixed_labels::MixedTargets, soft_targets::TeacherLogits};
use crate::config::{LossKind, LossTerm};

/// A term of a loss.
#[derive(Debug, Clone, PartialEq)]
pub struct Term {
    /// Formula, parameters and weight.
    pub config: LossTerm,
    /// Position of its soft targets among [`Targets::soft_targets`], if it needs some.
    pub soft_targets: usize,
}

/// The targets of a batch.
#[derive(Debug, Clone, Copy)]
pub struct Targets<'t> {
    /// i64 [batch]
    pub labels: &'t Tensor,
    /// The other labels of mixed samples; only cross-entropy takes them into account.
    pub mixed: Option<&'t MixedTargets>,
    /// The logits of each teacher, or of teachers together, that terms learn from; none if the loss needs none.
    pub soft_targets: &'t [TeacherLogits],
    /// Epoch of the phase, counted from 1.
    pub epoch: usize,
}

/// The loss of a batch.
#[derive(Debug)]
pub struct Loss {
    /// A scalar that supports back-propagation.
    pub total: Tensor,
    /// The weighted terms that add up to the total, in order; empty if there is only one.
    pub terms: Vec<Tensor>,
}

/// The loss of `logits`, f32 [batch, classes].
///
/// # Errors
/// If there are no terms, if soft targets or some of their logits are missing, or if libtorch fails.
pub fn loss(terms: &[Term], logits: &Tensor, targets: &Targets<'_>) -> Result<Loss, TchError> {
    let mut values: Vec<_> = terms
        .iter()
        .map(|term| weighted(term, logits, targets))
        .collect::<Result<_, _>>()?;
    match values.len() {
        0 => Err(TchError::Shape("the loss has no terms".to_owned())),
        1 => Ok(Loss {
            total: values.remove(0),
            terms: Vec::new(),
        }),
        _ => {
            let mut total = values[0].shallow_clone();
            for value in &values[1..] {
                total = total.f_add(value)?;
            }
            Ok(Loss {
                total,
                terms: values,
            })
        }
    }
}

/// A term times its weight in the current epoch.
fn weighted(term: &Term, logits: &Tensor, targets: &Targets<'_>) -> Result<Tensor, TchError> {
    let targets = targets.of(term);
    let term = &term.config;
    let value = if term.standardize {
        let teacher = TeacherLogits::Dense(standardized(&targets.all_logits()?)?);
        let targets = Targets {
            soft_targets: std::slice::from_ref(&teacher),
            ..targets
        };
        value(&term.kind, &standardized(logits)?, &targets)?
    } else {
        value(&term.kind, logits, &targets)?
    };
    let weight = term.weight * term.kind.warm_up(targets.epoch);
    if weight == 1.0 {
        return Ok(value);
    }
    value.f_mul_scalar(weight)
}

fn value(kind: &LossKind, logits: &Tensor, targets: &Targets<'_>) -> Result<Tensor, TchError> {
    let labels = targets.labels;
    let teacher = || targets.teacher();
    let all_logits = || targets.all_logits();
    match kind {
        LossKind::CrossEntropy { label_smoothing } => {
            cross_entropy(logits, targets, *label_smoothing)
        }
        LossKind::SoftCrossEntropy { temperature } => {
            soft_cross_entropy(logits, teacher()?, *temperature)
        }
        LossKind::Kd { temperature, .. } => kd(logits, teacher()?, *temperature),
        LossKind::Dkd(config) => dkd(*config, logits, &all_logits()?, labels),
        LossKind::Dist(config) => dist(*config, logits, &all_logits()?),
        LossKind::Wttm { gamma } => match teacher()? {
            // γ applies to the probabilities of the mixture, not to those of each teacher.
            TeacherLogits::Mixture(_) => wttm(logits, &TeacherLogits::Dense(all_logits()?), *gamma),
            teacher => wttm(logits, teacher, *gamma),
        },
        LossKind::Rld(config) => rld(*config, logits, &all_logits()?, labels),
        LossKind::MseLogits {} => logits.f_mse_loss(&all_logits()?, Reduction::Mean),
        LossKind::MlkdInstance { temperatures } => instance_level(logits, teacher()?, temperatures),
        LossKind::MlkdBatch { temperatures } => batch_level(logits, &all_logits()?, temperatures),
        LossKind::MlkdClass { temperatures } => class_level(logits, &all_logits()?, temperatures),
    }
}

impl<'t> Targets<'t> {
    /// With no soft targets but those of `term`.
    fn of(&self, term: &Term) -> Self {
        let own = self.soft_targets.get(term.soft_targets..=term.soft_targets);
        Self {
            soft_targets: own.unwrap_or_default(),
            ..*self
        }
    }

    /// The soft targets of the only term.
    fn teacher(&self) -> Result<&'t TeacherLogits, TchError> {
        let missing = || TchError::Shape("the loss needs soft targets".to_owned());
        self.soft_targets.first().ok_or_else(missing)
    }

    /// The teacher's logits of all classes, f32 [batch, classes].
    fn all_logits(&self) -> Result<Tensor, TchError> {
        self.teacher()?.all_classes()
    }
}

#[cfg(test)]
mod tests;
