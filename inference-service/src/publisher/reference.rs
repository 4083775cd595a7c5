//! What a canary's answers are compared with: a teacher, or the active version.

use std::{sync::Arc, time::Instant};

use bytes::Bytes;
use tokio::sync::oneshot;
use traces::Scope;

use crate::{
    batcher::Job,
    canary::{Comparison, Trial},
    config::CanaryConfig,
    loaded_version::LoadedVersion,
    raw_samples::raw_samples,
    teacher::Teacher,
};

/// Gives the classes that a canary should give.
#[derive(Debug)]
pub(super) enum Reference {
    /// The active version. It computes the samples again, in its own batches.
    ActiveVersion,
    /// The teacher of `canary.teacher`.
    Teacher(Teacher),
}

impl Reference {
    pub(super) fn of(config: &CanaryConfig) -> Self {
        match &config.teacher {
            None => Self::ActiveVersion,
            Some(address) => Self::Teacher(Teacher::new(address)),
        }
    }

    /// Compares one answer of `canary`, and records the result in `trial`.
    pub(super) async fn compare(
        &self,
        trial: &Trial,
        active: Arc<LoadedVersion>,
        canary: Arc<LoadedVersion>,
        comparison: Comparison,
    ) {
        let classes = canary.interface.classes;
        let found = top_classes(&comparison.logits, classes);
        let samples = comparison.samples;
        match self.logits(active, canary, comparison).await {
            Ok(logits) => {
                let expected = top_classes(&logits, classes);
                let pairs = found.iter().zip(&expected).take(samples);
                let agreeing = pairs.filter(|(found, expected)| found == expected);
                trial.compared(samples as u64, agreeing.count() as u64);
            }
            Err(problem) => trial.not_compared(problem),
        }
    }

    /// Little-endian f32 [samples, classes].
    async fn logits(
        &self,
        active: Arc<LoadedVersion>,
        canary: Arc<LoadedVersion>,
        comparison: Comparison,
    ) -> Result<Bytes, String> {
        match self {
            Self::ActiveVersion => {
                let gone = "the active version does not answer";
                let (reply, answer) = oneshot::channel();
                let job = Job {
                    input: comparison.input,
                    samples: comparison.samples,
                    enqueued: Instant::now(),
                    deadline: None,
                    scope: Scope::default(),
                    reply,
                };
                let pushed = active.batcher.push(job);
                // A swap may wait for the end of the sessions.
                drop((active, canary));
                pushed.map_err(|_| "the queue of the active version is full".to_owned())?;
                let computed = answer.await.map_err(|_| gone.to_owned())?;
                Ok(computed.map_err(|error| error.to_string())?.logits)
            }
            Self::Teacher(teacher) => {
                let manifest = Arc::clone(&canary.manifest);
                let shape = canary.interface.sample.clone();
                drop((active, canary));
                let values = raw_samples(&comparison.input, &manifest);
                let logits = teacher.logits(values, &shape, &manifest.class_names).await;
                let logits = logits
                    .map_err(|problem| format!("the teacher at {} {problem}", teacher.address()))?;
                let bytes: Vec<u8> = logits
                    .iter()
                    .flat_map(|value| value.to_le_bytes())
                    .collect();
                Ok(bytes.into())
            }
        }
    }
}

/// The class with the largest of the little-endian f32 [samples, classes], for each sample.
fn top_classes(logits: &[u8], classes: usize) -> Vec<usize> {
    let (values, _) = logits.as_chunks();
    let values: Vec<f32> = values
        .iter()
        .map(|value| f32::from_le_bytes(*value))
        .collect();
    let top = |row: &[f32]| {
        let largest = row.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1));
        largest.map_or(0, |(class, _)| class)
    };
    values.chunks_exact(classes.max(1)).map(top).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_class_of_a_sample_is_that_of_its_largest_logit() {
        let logits = [0.5_f32, 2.0, -1.0, 3.0, 0.0, -7.0];
        let bytes: Vec<u8> = logits
            .iter()
            .flat_map(|value| value.to_le_bytes())
            .collect();
        assert_eq!(top_classes(&bytes, 3), [1, 0]);
        assert_eq!(top_classes(&bytes, 2), [1, 1, 0]);
        assert!(top_classes(&[], 3).is_empty());
    }
}
