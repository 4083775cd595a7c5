//! A recording that grows while the run reads it.

use std::{collections::BTreeMap, path::Path, time::Instant};

use datasets::Subset;
use networks::Shape;
use soft_targets::{Fault, Recording, RecordingLock, Replay, ShardFault, ShardId, ShardSpace};
use teacher_pool::TeacherPool;
use tokio_util::sync::CancellationToken;

use super::{
    context::SupplyContext, error::SoftTargetError, live::LiveTargets, recorded::RecordedTargets,
    recorder::Recorder, unused_samples,
};
use crate::events::NoticeSender;

/// Records what a recording lacks, view by view, while training reads it.
pub(super) struct RecordingRun<'r> {
    pool: TeacherPool,
    recording: Recording,
    lock: RecordingLock,
    /// Shards to record, by view.
    missing: BTreeMap<u32, Vec<ShardId>>,
    /// The space that they take.
    space: ShardSpace,
    views: u32,
    recorded: RecordedTargets,
    source: &'r Subset,
    input: Shape,
    batch_size: usize,
    prefetch: usize,
    notices: NoticeSender,
}

impl<'r> RecordingRun<'r> {
    /// Opens the recording of `pool`'s teacher, or creates it.
    ///
    /// # Errors
    /// If the recording cannot be used, or the disk has too little space for what is missing.
    pub(super) fn prepare(
        context: &SupplyContext<'r>,
        pool: TeacherPool,
        notices: NoticeSender,
    ) -> Result<Self, SoftTargetError> {
        let recording = context.open_or_create(&pool)?;
        let order = context.class_order(Some(pool.class_names()), "the teacher", &notices)?;
        let lock = recording.lock()?;
        let views = context.views_needed(context.recorded_views());
        recording.estimate(views)?.check(recording.place())?;
        let faults = context.to_record(&recording, recording.shards(views))?;
        let shards = shards_to_record(faults, &notices);
        let space = recording.space(&shards)?;
        space.check(recording.place())?;
        if !shards.is_empty() {
            unused_samples::report(context, &notices);
        }
        let mut missing: BTreeMap<u32, Vec<ShardId>> = BTreeMap::new();
        for id in shards {
            missing.entry(id.view).or_default().push(id);
        }
        let replay = Replay::new(recording.clone(), views).until(context.cancel.clone());
        Ok(Self {
            recorded: RecordedTargets::growing(replay, order),
            pool,
            recording,
            lock,
            missing,
            space,
            views,
            source: context.train,
            input: context.input(),
            batch_size: context.batch_size(),
            prefetch: context.prefetch(),
            notices,
        })
    }

    /// The recording's folder or URL, and the space that its missing shards take.
    pub(super) fn space(&self) -> (&Path, ShardSpace) {
        (self.recording.place(), self.space)
    }

    /// The soft targets for training. Each view can be read once it is complete.
    pub(super) fn recorded(&self) -> &RecordedTargets {
        &self.recorded
    }

    /// Records what is missing, until `stop` is cancelled. What ended it, readers of [`Self::recorded`] learn.
    pub(super) fn record_until(&self, stop: &CancellationToken) {
        self.recorded.end(self.record(stop));
    }

    fn record(&self, stop: &CancellationToken) -> Result<(), SoftTargetError> {
        let recorder = Recorder {
            recording: &self.recording,
            source: self.source,
            input: self.input,
            teachers: LiveTargets {
                pool: &self.pool,
                prefetch: self.prefetch,
                fallback: None,
                // A recording keeps the teacher's order of classes.
                order: None,
            },
            batch_size: self.batch_size,
            cancel: stop,
        };
        for view in 0..self.views {
            if let Some(shards) = self.missing.get(&view) {
                let started = Instant::now();
                let recorded = recorder.record(shards, &self.lock, |_| {})?;
                self.notices.notice(format!(
                    "recorded view {} of {}: {} shards in {:.1} s",
                    view + 1,
                    self.views,
                    recorded.here,
                    started.elapsed().as_secs_f64()
                ));
            }
            self.recorded.finish_view(view)?;
        }
        Ok(())
    }
}

/// The shards of `faults`, which must be recorded. Reports those that exist but are damaged.
pub(super) fn shards_to_record(faults: Vec<ShardFault>, notices: &NoticeSender) -> Vec<ShardId> {
    let mut shards = Vec::new();
    for fault in faults {
        if fault.fault != Fault::Missing {
            notices.notice(format!("{fault}; it is recorded again"));
        }
        shards.push(fault.id);
    }
    shards
}
