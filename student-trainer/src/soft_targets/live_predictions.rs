//! What live teachers answer, for evaluations.

use bytes::Bytes;
use datasets::{Source, Subset, read_plain};
use soft_targets::{ClassOrder, Encoding};
use teacher_pool::{MIN_REQUEST_IMAGES, TeacherPool};
use tokio_util::sync::CancellationToken;

use super::{context::SupplyContext, epochs::SoftTargetEpochs, error::SoftTargetError};
use crate::{config::RunConfig, events::NoticeSender};

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

    /// The teacher's logits for every sample, without augmentation, in the order of the data's classes: row-major
    /// [samples, classes].
    ///
    /// # Errors
    /// A sample that cannot be read, or lost teachers.
    pub fn logits(&self, source: &dyn Source) -> Result<Vec<f32>, SoftTargetError> {
        let input = &self.pool.input().dimensions;
        // Holds: a teacher in the pool has a fixed input.
        let shape = input
            .sample_shape()
            .expect("the pool checks the teacher's input");
        let mut logits = Vec::new();
        let count = source.len() as u32;
        for first in (0..count).step_by(MIN_REQUEST_IMAGES) {
            let last = count.min(first + MIN_REQUEST_IMAGES as u32);
            let samples: Vec<u32> = (first..last).collect();
            let values = read_plain(source, &samples, &shape)?;
            let ticket = self
                .pool
                .submit(Bytes::from(values.into_bytes()), samples.len());
            let mut targets = ticket.wait(&self.cancel)?;
            if let Some(order) = &self.order {
                targets = targets.reordered(order);
            }
            logits.extend(targets.logits());
        }
        Ok(logits)
    }
}
