//! What live teachers predict, for evaluations.

use bytes::Bytes;
use datasets::{Source, Subset, read_plain_for};
use soft_targets::{ClassOrder, Encoding};
use teacher_pool::{MIN_REQUEST_IMAGES, TeacherPool};
use tokio_util::sync::CancellationToken;

use super::{
    context::SupplyContext, epochs::SoftTargetEpochs, error::SoftTargetError, live::target_of,
};
use crate::{classification::largest, config::RunConfig, events::NoticeSender};

/// The connected teachers of a run's configuration.
pub struct LiveTeacher {
    pool: TeacherPool,
    order: Option<ClassOrder>,
    cancel: CancellationToken,
}

impl LiveTeacher {
    /// Connects to the teachers of `config` for samples like those of `samples`.
    ///
    /// # Errors
    /// If no teacher can be reached, or none fits.
    pub fn connect(
        config: &RunConfig,
        samples: &Subset,
        notices: &NoticeSender,
        cancel: &CancellationToken,
        runtime: &tokio::runtime::Handle,
    ) -> Result<Self, SoftTargetError> {
        let mut config = config.clone();
        if let Some(teacher) = &mut config.teacher {
            // A prediction needs every logit.
            teacher.encoding = Encoding::F32;
        }
        let context = SupplyContext {
            config: &config,
            epochs: SoftTargetEpochs::default(),
            teacher_before: None,
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

    /// The class that the teacher gives each sample, without augmentation, as an index into the data's classes.
    ///
    /// # Errors
    /// A sample that cannot be read, or lost teachers.
    pub fn predict(&self, source: &dyn Source) -> Result<Vec<u32>, SoftTargetError> {
        let target = target_of(&self.pool);
        let mut predictions = Vec::with_capacity(source.len());
        let count = source.len() as u32;
        for first in (0..count).step_by(MIN_REQUEST_IMAGES) {
            let last = count.min(first + MIN_REQUEST_IMAGES as u32);
            let samples: Vec<u32> = (first..last).collect();
            let values = read_plain_for(source, &samples, target.clone())?;
            let ticket = self
                .pool
                .submit(Bytes::from(values.into_bytes()), samples.len());
            let mut targets = ticket.wait(&self.cancel)?;
            if let Some(order) = &self.order {
                targets = targets.reordered(order);
            }
            let logits: Vec<f32> = targets.logits().collect();
            let classes = logits.len() / samples.len();
            predictions.extend(logits.chunks_exact(classes).map(largest));
        }
        Ok(predictions)
    }
}
