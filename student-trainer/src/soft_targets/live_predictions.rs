//! What live teachers answer, for evaluations.

use artifacts::manifest::TeacherIdentity;
use bytes::Bytes;
use datasets::{Source, Subset, read_plain_for};
use soft_targets::{ClassOrder, Encoding};
use teacher_pool::{BatchContent, MIN_REQUEST_IMAGES, PoolConfig, TeacherBatch, TeacherPool};
use tokio_util::sync::CancellationToken;

use super::{
    context::SupplyContext, epochs::SoftTargetEpochs, error::SoftTargetError, live::target_of,
    run_reference::RunReference,
};
use crate::{
    config::{ConfiguredTeacher, RunConfig},
    events::NoticeSender,
};

/// A connected teacher of a run's configuration.
pub struct LiveTeacher {
    pool: TeacherPool,
    order: Option<ClassOrder>,
    cancel: CancellationToken,
}

impl LiveTeacher {
    /// Connects to the teacher of `config` that is called `name`, or to its only one, for samples like those of
    /// `samples`; only to `teacher` if it is given.
    ///
    /// # Errors
    /// [`SoftTargetError::WhichTeacher`]; if no teacher can be reached, or none fits.
    pub fn connect(
        config: &RunConfig,
        name: Option<&str>,
        samples: &Subset,
        teacher: Option<&TeacherIdentity>,
        notices: &NoticeSender,
        cancel: &CancellationToken,
        runtime: &tokio::runtime::Handle,
    ) -> Result<Self, SoftTargetError> {
        let configured = config.teacher_called(name);
        let configured = configured.ok_or_else(|| SoftTargetError::WhichTeacher {
            names: all_names(config),
        })?;
        // A prediction needs every logit.
        let pool = configured.pool.map(|pool| PoolConfig {
            encoding: Encoding::F32,
            // The samples are others than those that the run trains on.
            batches: BatchContent::Pixels,
            ..pool.clone()
        });
        let context = SupplyContext {
            config,
            teacher: ConfiguredTeacher {
                pool: pool.as_ref(),
                ..configured
            },
            epochs: SoftTargetEpochs::default(),
            teacher_before: teacher,
            train: samples,
            reference: RunReference::default(),
            cancel,
            runtime,
        };
        let pool = context.connect(notices.clone())?;
        let order = context.class_order(Some(pool.class_names()), "the teacher", notices)?;
        Ok(Self {
            order,
            pool,
            cancel: cancel.clone(),
        })
    }

    /// The teacher's logits for every sample, without augmentation, in the order of the data's classes: row-major
    /// [samples, classes].
    ///
    /// # Errors
    /// A sample that cannot be read, or lost teachers.
    pub fn logits(&self, source: &dyn Source) -> Result<Vec<f32>, SoftTargetError> {
        let target = target_of(&self.pool);
        let mut logits = Vec::new();
        let count = source.len() as u32;
        for first in (0..count).step_by(MIN_REQUEST_IMAGES) {
            let last = count.min(first + MIN_REQUEST_IMAGES as u32);
            let samples: Vec<u32> = (first..last).collect();
            let values = read_plain_for(source, &samples, target.clone())?;
            let ticket = self.pool.submit(TeacherBatch {
                data: Bytes::from(values.into_bytes()),
                samples: samples.len(),
                ..TeacherBatch::default()
            });
            let mut targets = ticket.wait(&self.cancel)?;
            if let Some(order) = &self.order {
                targets = targets.reordered(order);
            }
            logits.extend(targets.logits());
        }
        Ok(logits)
    }
}

/// The names of the teachers of `config`.
fn all_names(config: &RunConfig) -> String {
    let teachers = config.all_teachers();
    let names: Vec<_> = teachers.iter().filter_map(|teacher| teacher.name).collect();
    if names.is_empty() {
        return "none".to_owned();
    }
    names.join(", ")
}
