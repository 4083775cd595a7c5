//! The soft targets of one phase: which teachers get which samples of a batch.

use std::collections::BTreeMap;

use bytes::Bytes;
use datasets::{Target, View};
use soft_targets::{SoftTargets, consumption::named_teachers};
use tokio_util::sync::CancellationToken;

use super::{
    error::SoftTargetError,
    live::{BatchRequest, PendingSoftTargets},
    source::SoftTargetSource,
};
use crate::config::{PhaseConfig, RoutedSample, RunConfig, SampleRoute, TermTeachers};

/// The teachers of a phase, and what each term of its loss learns from.
pub struct PhaseTargets<'r> {
    /// In the order of the run's teachers; `None` for those that the phase does not need.
    teachers: Vec<Option<PhaseTeacher<'r>>>,
    /// In the order of the loss's terms.
    terms: Vec<Option<TermTeachers>>,
    /// The inputs of the teachers that are asked, each once.
    inputs: Vec<Target>,
    consumed: String,
}

/// A teacher that a phase needs.
struct PhaseTeacher<'r> {
    name: Option<&'r str>,
    source: SoftTargetSource<'r>,
    /// Position of its input; `None` if it is not asked.
    input: Option<usize>,
    /// The routes that send it samples; `None` if it gets all samples.
    routes: Option<Vec<SampleRoute>>,
}

/// A batch as the teachers see it.
pub struct TeacherBatch<'b> {
    /// What its samples show. Also decides what a sampled encoding draws.
    pub view: View,
    /// Positions in the data set.
    pub samples: &'b [u32],
    /// What decides the teachers of the samples on a route.
    pub routed: &'b [RoutedSample],
    /// The samples for each of [`PhaseTargets::inputs`], row-major, little-endian.
    pub values: &'b [Bytes],
}

/// The samples of a batch that one teacher got.
#[must_use = "dropping it drops the answer"]
pub struct PendingAnswer<'r> {
    name: Option<&'r str>,
    rows: Option<Vec<usize>>,
    targets: PendingSoftTargets<'r>,
}

/// A teacher's soft targets of the samples that it got.
#[derive(Debug)]
pub struct TeacherAnswer {
    /// One row for each of `rows`.
    pub targets: SoftTargets,
    /// Positions of the samples in the batch, in ascending order; `None` if it got all.
    pub rows: Option<Vec<usize>>,
}

impl<'r> PhaseTargets<'r> {
    /// The soft targets of `phase` from `sources`, those of the run's teachers in order. `None` if the phase needs
    /// none, also because it is over.
    pub fn new(
        config: &'r RunConfig,
        phase: &PhaseConfig,
        sources: &[Option<SoftTargetSource<'r>>],
    ) -> Option<Self> {
        let terms = phase.loss.terms();
        let terms: Vec<_> = terms.iter().map(|term| config.teachers_of(term)).collect();
        let mut inputs = Vec::new();
        let mut model_ids = BTreeMap::new();
        let teachers = config.all_teachers().into_iter().zip(sources);
        let teachers = teachers.map(|(teacher, source)| {
            let position = teacher.position;
            let mut using = terms.iter().flatten();
            if !using.any(|it| it.positions().contains(&position)) {
                return None;
            }
            let source = (*source)?;
            let model_id = &*source.teacher().model_id;
            model_ids.insert(teacher.name.unwrap_or_default(), model_id);
            Some(PhaseTeacher {
                name: teacher.name,
                source,
                input: source
                    .teacher_input()
                    .map(|input| index_of(input, &mut inputs)),
                routes: routes_to(position, &terms),
            })
        });
        let teachers: Vec<_> = teachers.collect();
        if model_ids.is_empty() {
            return None;
        }
        let consumed = match model_ids.get("") {
            Some(model_id) => (*model_id).to_owned(),
            None => named_teachers(&model_ids),
        };
        Some(Self {
            teachers,
            terms,
            inputs,
            consumed,
        })
    }

    /// What each term of the loss learns from, in order.
    pub fn terms(&self) -> &[Option<TermTeachers>] {
        &self.terms
    }

    /// The inputs of the teachers that are asked, each once; none if all soft targets are recorded.
    pub fn inputs(&self) -> &[Target] {
        &self.inputs
    }

    /// The teachers in the record of a step; see [`soft_targets::consumption::ConsumedStep`].
    pub fn consumed(&self) -> &str {
        &self.consumed
    }

    /// Number of teachers that are connected now.
    pub fn connected(&self) -> usize {
        self.needed().map(|it| it.source.teachers()).sum()
    }

    /// Number of batches to ask for ahead of training.
    pub fn prefetch(&self) -> usize {
        let most = self.needed().map(|it| it.source.prefetch()).min();
        most.unwrap_or(1)
    }

    /// Asks for the soft targets of a batch: in the order of the run's teachers, `None` for those that get no sample.
    /// Does not wait for teachers, but waits for a view that is still being recorded.
    pub fn ask(&self, batch: &TeacherBatch<'_>) -> Vec<Option<PendingAnswer<'r>>> {
        let teachers = self.teachers.iter().enumerate();
        teachers
            .map(|(position, teacher)| teacher.as_ref()?.ask(position, batch))
            .collect()
    }

    fn needed(&self) -> impl Iterator<Item = &PhaseTeacher<'r>> {
        self.teachers.iter().flatten()
    }
}

impl<'r> PhaseTeacher<'r> {
    fn ask(&self, position: usize, batch: &TeacherBatch<'_>) -> Option<PendingAnswer<'r>> {
        let values = self.input.map(|input| &batch.values[input]);
        let rows = self.routes.as_ref().map(|routes| {
            let is_sent = |it: RoutedSample| routes.iter().any(|to| to.teacher(it) == position);
            let samples = batch.routed.iter().enumerate();
            let sent = samples.filter(|(_, sample)| is_sent(**sample));
            sent.map(|(row, _)| row).collect::<Vec<_>>()
        });
        let Some(rows) = rows else {
            let targets = self.source.ask(BatchRequest {
                view: batch.view,
                samples: batch.samples,
                values: values.cloned().unwrap_or_default(),
            });
            return Some(self.asked(None, targets));
        };
        if rows.is_empty() {
            return None;
        }
        let samples: Vec<u32> = rows.iter().map(|row| batch.samples[*row]).collect();
        let values = values.map(|values| select(values, batch.samples.len(), &rows));
        let targets = self.source.ask(BatchRequest {
            view: batch.view,
            samples: &samples,
            values: values.unwrap_or_default(),
        });
        Some(self.asked(Some(rows), targets))
    }

    fn asked(
        &self,
        rows: Option<Vec<usize>>,
        targets: PendingSoftTargets<'r>,
    ) -> PendingAnswer<'r> {
        PendingAnswer {
            name: self.name,
            rows,
            targets,
        }
    }
}

impl PendingAnswer<'_> {
    /// Waits for the soft targets. Blocks: must not be called from an async task.
    ///
    /// # Errors
    /// See [`PendingSoftTargets::wait`]; the text names the teacher if it has a name.
    pub fn wait(self, cancel: &CancellationToken) -> Result<TeacherAnswer, SoftTargetError> {
        let targets = self.targets.wait(cancel);
        Ok(TeacherAnswer {
            targets: targets.map_err(|error| error.of(self.name))?,
            rows: self.rows,
        })
    }
}

/// Position of `input` in `inputs`, to which it is added if it is new.
fn index_of(input: Target, inputs: &mut Vec<Target>) -> usize {
    let known = inputs.iter().position(|known| *known == input);
    known.unwrap_or_else(|| {
        inputs.push(input);
        inputs.len() - 1
    })
}

/// The routes of `terms` that send samples to `teacher`; `None` if another term needs it for all samples.
pub(super) fn routes_to(
    teacher: usize,
    terms: &[Option<TermTeachers>],
) -> Option<Vec<SampleRoute>> {
    let using = terms.iter().flatten();
    let using = using.filter(|it| it.positions().contains(&teacher));
    using
        .map(|it| match it {
            TermTeachers::Route(route) => Some(route.clone()),
            TermTeachers::One(_) | TermTeachers::Ensemble(_) => None,
        })
        .collect()
}

/// The `rows` of `values`, which has `samples` rows.
fn select(values: &Bytes, samples: usize, rows: &[usize]) -> Bytes {
    let row = values.len() / samples;
    let mut selected = Vec::with_capacity(row * rows.len());
    for index in rows {
        selected.extend_from_slice(&values[index * row..(index + 1) * row]);
    }
    selected.into()
}

#[cfg(test)]
mod tests;
