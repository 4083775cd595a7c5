//! The checkpoints of a run while one of its phases is trained.

use std::io;

use super::Run;
use crate::{
    engine::{Checkpoints, PhaseState},
    run::{
        checkpoint::{Checkpoint, RunProgress},
        manifest::PhaseRecord,
        teachers::RunTeachers,
    },
};

/// Turns the states of one phase into checkpoints of the run.
pub(super) struct PhaseCheckpoints<'r> {
    pub(super) run: &'r Run<'r>,
    pub(super) phase: usize,
    /// Records of the phases before.
    pub(super) records: &'r [PhaseRecord],
    pub(super) teachers: &'r RunTeachers,
}

impl Checkpoints for PhaseCheckpoints<'_> {
    fn every_steps(&self) -> u64 {
        self.run.config.checkpoints.every_steps
    }

    fn keep(&self, state: PhaseState) -> io::Result<()> {
        let Self { run, phase, .. } = *self;
        let single = self.teachers.single.as_ref();
        let config = &run.config.phases[phase];
        let epochs = state.progress.epoch as u64 * run.steps_per_epoch(config);
        let step = run.steps_before(phase) + epochs + state.progress.step;
        if state.progress.step == 0 {
            run.tensorboard.weights(step, &state.weights);
        }
        run.checkpoints().keep(&Checkpoint {
            run: RunProgress {
                step,
                phase,
                kind: config.kind(),
                phases: self.records.to_vec(),
                circumstances: run.circumstances.clone(),
                teacher: single.map(|teacher| teacher.identity.clone()),
                class_order: single.and_then(|teacher| teacher.class_order.clone()),
                teachers: self.teachers.named.clone(),
                bit_reproducible: run.is_bit_reproducible(),
                metrics_bytes: run.metrics.sync()?,
                seconds: run.seconds(),
            },
            phase: state,
        })?;
        run.copy_to_bucket();
        Ok(())
    }
}
