//! What a run did, collected from its events.

use proto::runs::v1::{EpochFinished, StepProgress, watch_run_response::Event};

use super::Observer;

/// The phases of a run as far as they were seen.
#[derive(Debug, Clone, Default)]
pub(crate) struct RunHistory {
    /// In order.
    pub phases: Vec<PhaseHistory>,
}

/// One phase.
#[derive(Debug, Clone, Default)]
pub(crate) struct PhaseHistory {
    /// supervised, distill or fine_tune.
    pub kind: String,
    /// Optimizer steps an epoch.
    pub steps_per_epoch: u64,
    /// Training loss by place: (epochs done, a fraction; mean loss of the latest steps).
    pub loss: Vec<(f64, f64)>,
    /// As reported.
    pub epochs: Vec<EpochFinished>,
}

impl RunHistory {
    /// Wall-clock seconds of all epochs of the phases called `kind`.
    pub(crate) fn seconds(&self, kind: &str) -> f64 {
        let phases = self.phases.iter().filter(|phase| phase.kind == kind);
        phases
            .flat_map(|phase| &phase.epochs)
            .map(|epoch| epoch.seconds)
            .sum()
    }
}

impl PhaseHistory {
    /// Where in the phase `progress` was reported, in epochs.
    fn place(&self, progress: &StepProgress) -> f64 {
        let steps = self.steps_per_epoch.max(1) as f64;
        f64::from(progress.epoch.saturating_sub(1)) + progress.step as f64 / steps
    }
}

impl Observer for RunHistory {
    fn observe(&mut self, event: &Event) {
        match event {
            Event::PhaseStarted(started) => self.phases.push(PhaseHistory {
                kind: started.kind.clone(),
                steps_per_epoch: started.steps_per_epoch,
                ..PhaseHistory::default()
            }),
            Event::StepProgress(progress) => {
                if let Some(phase) = self.phases.last_mut() {
                    phase.loss.push((phase.place(progress), progress.loss));
                }
            }
            Event::EpochFinished(finished) => {
                if let Some(phase) = self.phases.last_mut() {
                    phase.epochs.push(*finished);
                }
            }
            Event::StateChanged(_) | Event::Notice(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use proto::runs::v1::PhaseStarted;

    use super::*;

    #[test]
    fn phases_collect_their_own_events() {
        let mut history = RunHistory::default();
        for kind in ["distill", "fine_tune"] {
            history.observe(&Event::PhaseStarted(PhaseStarted {
                kind: kind.to_owned(),
                steps_per_epoch: 4,
                epochs: 2,
                ..Default::default()
            }));
            history.observe(&Event::StepProgress(StepProgress {
                epoch: 2,
                step: 2,
                loss: 0.5,
                ..Default::default()
            }));
            history.observe(&Event::EpochFinished(EpochFinished {
                seconds: 1.5,
                ..Default::default()
            }));
        }
        assert_eq!(history.phases.len(), 2);
        assert_eq!(history.phases[0].loss, [(1.5, 0.5)]);
        assert_eq!(history.seconds("distill"), 1.5);
        assert_eq!(history.seconds("supervised"), 0.0);
    }
}
