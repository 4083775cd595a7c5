//! The history of a run, collected from its events.

use proto::runs::v1::{EpochFinished, StepProgress, watch_run_response::Event};

use super::Observer;

/// The phases of a run that have started so far.
#[derive(Debug, Clone, Default)]
pub(crate) struct RunHistory {
    /// The phases in the order in which they ran.
    pub phases: Vec<PhaseHistory>,
}

/// One phase.
#[derive(Debug, Clone, Default)]
pub(crate) struct PhaseHistory {
    /// supervised, distill or fine_tune.
    pub kind: String,
    /// Optimizer steps per epoch.
    pub steps_per_epoch: u64,
    /// Training loss: (position in epochs, mean loss of the latest steps).
    pub loss: Vec<(f64, f64)>,
    /// The finished epochs.
    pub epochs: Vec<EpochFinished>,
}

impl RunHistory {
    /// Wall-clock seconds of all epochs in phases of this kind.
    pub(crate) fn seconds(&self, kind: &str) -> f64 {
        let phases = self.phases.iter().filter(|phase| phase.kind == kind);
        phases
            .flat_map(|phase| &phase.epochs)
            .map(|epoch| epoch.seconds)
            .sum()
    }
}

impl PhaseHistory {
    /// The position of `progress` in the phase, in epochs.
    fn position(&self, progress: &StepProgress) -> f64 {
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
                    phase.loss.push((phase.position(progress), progress.loss));
                }
            }
            Event::EpochFinished(finished) => {
                if let Some(phase) = self.phases.last_mut() {
                    phase.epochs.push(finished.clone());
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
