//! Asks teachers for the shards that a recording lacks.

use std::collections::VecDeque;

use datasets::{BatchAssembler, Dataset, View};
use soft_targets::SoftTargets;
use soft_targets::{Recording, RecordingLock, ShardId};
use tokio_util::sync::CancellationToken;

use super::{LiveTargets, PendingSoftTargets, Request};
use crate::run::RunError;

/// Records shards, one after the other.
pub struct Recorder<'r> {
    /// Where to.
    pub recording: &'r Recording,
    /// Its images.
    pub dataset: &'r Dataset,
    /// Who is asked; nothing may take their place.
    pub teachers: LiveTargets<'r>,
    /// Images a request.
    pub batch_size: usize,
    /// Looked at between batches.
    pub cancel: &'r CancellationToken,
}

/// How far a recording is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// The shard under way.
    pub shard: ShardId,
    /// Images answered in this recording so far, of all shards asked for.
    pub images: u64,
}

/// A part of a shard, on its way.
struct Asked<'r> {
    shard: ShardId,
    samples: usize,
    targets: PendingSoftTargets<'r>,
}

impl<'r> Recorder<'r> {
    /// Records `shards`. Each is written when it is whole; teachers work on the next ones meanwhile.
    ///
    /// # Errors
    /// [`RunError::Cancelled`]; lost teachers; a file that cannot be written. What was written before
    /// stays.
    pub fn record(
        &self,
        shards: &[ShardId],
        lock: &RecordingLock,
        mut progress: impl FnMut(Progress),
    ) -> Result<(), RunError> {
        let mut batches = shards.iter().flat_map(|shard| self.batches(*shard));
        let mut asked = VecDeque::new();
        let (mut answers, mut answered, mut images) = (Vec::new(), 0, 0);
        loop {
            while asked.len() < self.teachers.prefetch {
                let Some((shard, samples)) = batches.next() else {
                    break;
                };
                asked.push_back(self.ask(shard, &samples));
            }
            let Some(Asked {
                shard,
                samples,
                targets,
            }) = asked.pop_front()
            else {
                return Ok(());
            };
            answers.push(targets.wait(self.cancel)?);
            answered += samples;
            images += samples as u64;
            if answered == self.recording.samples(shard.shard).len() {
                self.write(shard, &answers, lock)?;
                answers.clear();
                answered = 0;
            }
            progress(Progress { shard, images });
        }
    }

    /// The positions of the images of a shard, in batches.
    fn batches(&self, shard: ShardId) -> impl Iterator<Item = (ShardId, Vec<u32>)> {
        let samples = self.recording.samples(shard.shard);
        let batch_size = self.batch_size;
        samples.clone().step_by(batch_size).map(move |first| {
            let end = samples.end.min(first.saturating_add(batch_size as u32));
            (shard, (first..end).collect())
        })
    }

    fn ask(&self, shard: ShardId, samples: &[u32]) -> Asked<'r> {
        let views = &self.recording.identity().views;
        let view = View::Fixed {
            seed: views.seed,
            view: shard.view.into(),
        };
        let assembler = BatchAssembler::new(self.dataset, views.augmentation, view);
        let request = Request {
            view: Some(shard.view),
            samples,
            pixels: assembler.assemble(samples).pixels,
            image: self.dataset.shape(),
        };
        Asked {
            shard,
            samples: samples.len(),
            targets: self.teachers.ask(request),
        }
    }

    fn write(
        &self,
        shard: ShardId,
        answers: &[SoftTargets],
        lock: &RecordingLock,
    ) -> Result<(), RunError> {
        // Holds: a shard has a sample at least, so there is an answer.
        let targets = SoftTargets::concat(answers).expect("a shard is not empty");
        Ok(self.recording.write(shard, &targets, lock)?)
    }
}
