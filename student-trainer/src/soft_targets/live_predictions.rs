//! What live teachers answer, for evaluations.

use artifacts::manifest::TeacherIdentity;
use bytes::Bytes;
use datasets::{Source, Subset, read_plain_for};
use soft_targets::{ClassOrder, Encoding};
use teacher_pool::{BatchContent, MIN_REQUEST_IMAGES, TeacherBatch, TeacherPool};
use tokio_util::sync::CancellationToken;

use super::{
    context::SupplyContext, epochs::SoftTargetEpochs, error::SoftTargetError, live::target_of,
};
use crate::{config::RunConfig, events::NoticeSender};

/// The connected teachers of a run's configuration.
pub struct LiveTeacher {
    pool: TeacherPool,
    order: Option<ClassOrder>,
    cancel: CancellationToken,
}

impl LiveTeacher {
    /// Connects to the teachers of `config` for samples like those of `samples`; only to `teacher` if it is given.
    ///
    /// # Errors
    /// If no teacher can be reached, or none fits.
    pub fn connect(
        config: &RunConfig,
        samples: &Subset,
        teacher: Option<&TeacherIdentity>,
        notices: &NoticeSender,
        cancel: &CancellationToken,
        runtime: &tokio::runtime::Handle,
    ) -> Result<Self, SoftTargetError> {
        let mut config = config.clone();
        if let Some(pool) = &mut config.teacher {
            // A prediction needs every logit.
            pool.encoding = Encoding::F32;
            // The samples are others than those that the run trains on.
            pool.batches = BatchContent::Pixels;
        }
        let context = SupplyContext {
            config: &config,
            epochs: SoftTargetEpochs::default(),
            teacher_before: teacher,
            train: samples,
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
