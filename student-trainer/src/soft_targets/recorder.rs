//! Asks teachers for the shards that a recording lacks.

use std::collections::VecDeque;

use datasets::{BatchAssembler, Source, Targets, View};
use networks::Shape;
use soft_targets::{Recording, RecordingLock, ShardId, SoftTargets, Written};
use tokio_util::sync::CancellationToken;

use super::{
    error::SoftTargetError,
    live::{BatchRequest, LiveTargets, PendingSoftTargets},
};

/// Records shards, one after the other.
pub struct Recorder<'r> {
    /// The recording that gets the shards.
    pub recording: &'r Recording,
    /// The samples of the recording.
    pub source: &'r dyn Source,
    /// Shape of one sample of the student's input.
    pub input: Shape,
    /// The teachers, without a fallback.
    pub teachers: LiveTargets<'r>,
    /// Images per request.
    pub batch_size: usize,
    /// Checked between batches.
    pub cancel: &'r CancellationToken,
}

/// How much is recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// The current shard.
    pub shard: ShardId,
    /// Images whose answers have arrived or were not needed, over all shards to record.
    pub images: u64,
}

/// What became of the shards to record.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Recorded {
    /// Shards that this process recorded.
    pub here: usize,
    /// Shards that another process recorded meanwhile.
    pub elsewhere: usize,
}

/// A part of a shard that the teachers have.
struct Asked<'r> {
    shard: ShardId,
    samples: usize,
    targets: PendingSoftTargets<'r>,
}

impl<'r> Recorder<'r> {
    /// Records `shards`, except those that another process has recorded meanwhile. Writes each when it is
    /// complete, while the teachers work on the next ones.
    ///
    /// # Errors
    /// [`SoftTargetError::Cancelled`]; lost teachers; a file or object that cannot be written. Complete shards stay.
    pub fn record(
        &self,
        shards: &[ShardId],
        lock: &RecordingLock,
        mut progress: impl FnMut(Progress),
    ) -> Result<Recorded, SoftTargetError> {
        let mut shards = shards.iter().copied();
        let mut recorded = Recorded::default();
        let mut batches: VecDeque<(ShardId, Vec<u32>)> = VecDeque::new();
        let mut asked = VecDeque::new();
        let (mut answers, mut answered, mut images) = (Vec::new(), 0, 0);
        loop {
            while asked.len() < self.teachers.prefetch {
                let Some((shard, samples)) = batches.pop_front() else {
                    let Some(next) = shards.next() else {
                        break;
                    };
                    if !self.recording.has(next)? {
                        batches.extend(self.batches(next));
                    } else if self.cancel.is_cancelled() {
                        return Err(SoftTargetError::Cancelled);
                    } else {
                        recorded.elsewhere += 1;
                        images += self.recording.samples(next.shard).len() as u64;
                    }
                    continue;
                };
                asked.push_back(self.ask(shard, &samples)?);
            }
            let Some(Asked {
                shard,
                samples,
                targets,
            }) = asked.pop_front()
            else {
                return Ok(recorded);
            };
            answers.push(targets.wait(self.cancel)?);
            answered += samples;
            images += samples as u64;
            if answered == self.recording.samples(shard.shard).len() {
                match self.write(shard, &answers, lock)? {
                    Written::Here => recorded.here += 1,
                    Written::Elsewhere => recorded.elsewhere += 1,
                }
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

    fn ask(&self, shard: ShardId, samples: &[u32]) -> Result<Asked<'r>, SoftTargetError> {
        let views = &self.recording.identity().views;
        let view = View::Fixed {
            seed: views.seed,
            view: shard.view.into(),
        };
        let targets = Targets::new(&self.input.dimensions(), Some(self.teachers.input()));
        let assembler = BatchAssembler::new(self.source, views.augmentation, view, targets);
        let batch = assembler.assemble(samples)?;
        let request = BatchRequest {
            view,
            samples,
            values: batch
                .teacher_values
                .unwrap_or(batch.values)
                .into_bytes()
                .into(),
        };
        Ok(Asked {
            shard,
            samples: samples.len(),
            targets: self.teachers.ask(request),
        })
    }

    fn write(
        &self,
        shard: ShardId,
        answers: &[SoftTargets],
        lock: &RecordingLock,
    ) -> Result<Written, SoftTargetError> {
        // Holds: a shard has at least one sample, so there is an answer.
        let targets = SoftTargets::concat(answers).expect("a shard is not empty");
        Ok(self.recording.write(shard, &targets, lock)?)
    }
}
