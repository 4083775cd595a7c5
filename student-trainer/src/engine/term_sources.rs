//! What the terms of a loss learn from: the logits of one teacher, of an ensemble, or for each sample those of the
//! teacher that a route sends it to.

use tch::{Device, TchError, Tensor};
use tokio_util::sync::CancellationToken;
use torch_networks::to_device;

use super::{
    error::EngineError,
    loss::Term,
    soft_targets::{Component, TeacherLogits},
};
use crate::{
    config::{EnsembleMean, LossTerm, RoutedSample, SampleRoute, TeacherEnsemble, TermTeachers},
    soft_targets::{PendingAnswer, TeacherAnswer},
};

/// The sources of a phase's terms, each once.
#[derive(Debug)]
pub struct TermSources(Vec<TermTeachers>);

/// A teacher's logits of some samples of a batch.
#[derive(Debug)]
pub struct Answer {
    /// One row for each sample.
    logits: TeacherLogits,
    /// Positions of the samples in the batch, in ascending order; `None` if it has all.
    rows: Option<Vec<usize>>,
}

impl TermSources {
    /// The sources of `terms`, which learn from `teachers`, and the terms with the positions of their sources.
    pub fn new(terms: Vec<LossTerm>, teachers: &[Option<TermTeachers>]) -> (Self, Vec<Term>) {
        let mut sources: Vec<TermTeachers> = Vec::new();
        let terms = terms.into_iter().enumerate().map(|(index, config)| {
            let source = teachers.get(index).and_then(Option::as_ref);
            let soft_targets = source.map_or(0, |source| {
                let known = sources.iter().position(|known| known == source);
                known.unwrap_or_else(|| {
                    sources.push(source.clone());
                    sources.len() - 1
                })
            });
            Term {
                config,
                soft_targets,
            }
        });
        let terms = terms.collect();
        (Self(sources), terms)
    }

    /// The soft targets of each source, from the answers of the run's teachers in order. `samples` are those of the batch,
    /// as when it was sent.
    ///
    /// # Errors
    /// If an answer is missing, or lacks logits of some classes where several answers are combined: configurations that
    /// need them are refused.
    pub fn targets(
        &self,
        answers: &[Option<Answer>],
        samples: &[RoutedSample],
    ) -> Result<Vec<TeacherLogits>, TchError> {
        let Self(sources) = self;
        let targets = |source: &TermTeachers| -> Result<TeacherLogits, TchError> {
            match source {
                TermTeachers::One(teacher) => {
                    Ok(of_teacher(answers, *teacher)?.logits.shallow_clone())
                }
                TermTeachers::Ensemble(ensemble) => mean(ensemble, answers),
                TermTeachers::Route(route) => routed(route, answers, samples),
            }
        };
        sources.iter().map(targets).collect()
    }
}

/// Waits for the answers of the run's teachers, in order, and copies them into tensors on `device`.
///
/// # Errors
/// Of the first teacher that has none, or if libtorch fails.
pub fn answers(
    asked: Vec<Option<PendingAnswer<'_>>>,
    cancel: &CancellationToken,
    device: Device,
) -> Result<Vec<Option<Answer>>, EngineError> {
    let mut answers = Vec::with_capacity(asked.len());
    for asked in asked {
        answers.push(match asked {
            None => None,
            Some(asked) => Some(Answer::new(asked.wait(cancel)?, device)?),
        });
    }
    Ok(answers)
}

impl Answer {
    fn new(answer: TeacherAnswer, device: Device) -> Result<Self, TchError> {
        Ok(Self {
            logits: TeacherLogits::new(&answer.targets)?.moved_to(device)?,
            rows: answer.rows,
        })
    }

    /// Position of the row of sample `sample` of the batch.
    fn row(&self, sample: usize) -> Result<i64, TchError> {
        let row = match &self.rows {
            None => Ok(sample),
            Some(rows) => rows.binary_search(&sample),
        };
        let missing = |_| TchError::Shape("a teacher did not get a sample of its route".to_owned());
        Ok(row.map_err(missing)? as i64)
    }
}

fn of_teacher(answers: &[Option<Answer>], teacher: usize) -> Result<&Answer, TchError> {
    let answer = answers.get(teacher).and_then(Option::as_ref);
    answer.ok_or_else(|| TchError::Shape("the answer of a teacher is missing".to_owned()))
}

/// The weighted mean of the logits z_i: Σ w_i z_i, the geometric mean of the probabilities up to a factor; or a mixture
/// of the probabilities, their arithmetic mean.
fn mean(ensemble: &TeacherEnsemble, answers: &[Option<Answer>]) -> Result<TeacherLogits, TchError> {
    let TeacherEnsemble { members, of } = ensemble;
    let logits = |teacher: usize| -> Result<Tensor, TchError> {
        of_teacher(answers, teacher)?.logits.all_classes()
    };
    match of {
        EnsembleMean::Probabilities => {
            let mut components = Vec::with_capacity(members.len());
            for (teacher, weight) in members {
                components.push(Component {
                    log_weight: weight.ln(),
                    logits: logits(*teacher)?,
                });
            }
            Ok(TeacherLogits::Mixture(components))
        }
        EnsembleMean::Logits => {
            let mut sum: Option<Tensor> = None;
            for (teacher, weight) in members {
                let weighted = logits(*teacher)?.f_mul_scalar(*weight)?;
                sum = Some(match sum {
                    None => weighted,
                    Some(sum) => sum.f_add(&weighted)?,
                });
            }
            let sum = sum.ok_or_else(|| TchError::Shape("an ensemble has no teachers".to_owned()));
            Ok(TeacherLogits::Dense(sum?))
        }
    }
}

/// The logits that each of the batch's samples has from the teacher that `route` sends it to.
fn routed(
    route: &SampleRoute,
    answers: &[Option<Answer>],
    batch: &[RoutedSample],
) -> Result<TeacherLogits, TchError> {
    let mut parts = Vec::new();
    // Position of each sample of the batch among the rows of all parts.
    let mut positions = vec![0_i64; batch.len()];
    let mut rows_before = 0;
    for teacher in 0..answers.len() {
        let samples = (0..batch.len()).filter(|sample| route.teacher(batch[*sample]) == teacher);
        let samples: Vec<_> = samples.collect();
        if samples.is_empty() {
            continue;
        }
        let answer = of_teacher(answers, teacher)?;
        let rows = samples.iter().map(|sample| answer.row(*sample));
        let rows: Vec<i64> = rows.collect::<Result<_, TchError>>()?;
        parts.push(selected(&answer.logits.all_classes()?, &rows)?);
        for sample in samples {
            positions[sample] = rows_before;
            rows_before += 1;
        }
    }
    let all = Tensor::f_cat(&parts, 0)?;
    Ok(TeacherLogits::Dense(selected(&all, &positions)?))
}

/// The `rows` of `tensor`, in their order.
fn selected(tensor: &Tensor, rows: &[i64]) -> Result<Tensor, TchError> {
    let rows = to_device(Tensor::f_from_slice(rows)?, tensor.device())?;
    tensor.f_index_select(0, &rows)
}

#[cfg(test)]
mod tests;
