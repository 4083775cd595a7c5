//! Deduplication of run events.

use std::collections::BTreeSet;

use proto::runs::v1::watch_run_response::Event;

/// Deduplicates run events after a reconnect. The trainer streams the events of a run from the
/// first one again, and a run that resumes from a checkpoint repeats some steps.
#[derive(Debug, Default)]
pub(super) struct EventDedup {
    phase: Option<u32>,
    /// The latest (phase, epoch).
    epoch: Option<(u32, u32)>,
    /// The latest (phase, epoch, step).
    step: Option<(u32, u32, u64)>,
    notices: BTreeSet<String>,
    /// Whether the next events may be repetitions.
    repeats: bool,
}

impl EventDedup {
    /// Call this before the trainer streams the events from the first one again.
    pub(super) fn reconnected(&mut self) {
        self.repeats = true;
    }

    /// Whether `event` is new.
    pub(super) fn is_new(&mut self, event: &Event) -> bool {
        match event {
            Event::StateChanged(_) => true,
            Event::PhaseStarted(started) => is_later(&mut self.phase, started.phase),
            Event::EpochFinished(finished) => {
                let position = (finished.phase, finished.epoch);
                let later = is_later(&mut self.epoch, position);
                self.repeats &= !later;
                later
            }
            Event::StepProgress(progress) => {
                let position = (progress.phase, progress.epoch, progress.step);
                let later = is_later(&mut self.step, position);
                self.repeats &= !later;
                later
            }
            Event::Notice(notice) => self.notices.insert(notice.text.clone()) || !self.repeats,
        }
    }
}

fn is_later<T: PartialOrd + Copy>(latest: &mut Option<T>, found: T) -> bool {
    let later = latest.is_none_or(|latest| found > latest);
    if later {
        *latest = Some(found);
    }
    later
}

#[cfg(test)]
mod tests {
    use proto::runs::v1::{EpochFinished, Notice, PhaseStarted, Run, StepProgress};

    use super::*;

    fn phase(phase: u32) -> Event {
        Event::PhaseStarted(PhaseStarted {
            phase,
            ..Default::default()
        })
    }

    fn epoch(phase: u32, epoch: u32) -> Event {
        Event::EpochFinished(EpochFinished {
            phase,
            epoch,
            ..Default::default()
        })
    }

    fn step(phase: u32, epoch: u32, step: u64) -> Event {
        Event::StepProgress(StepProgress {
            phase,
            epoch,
            step,
            ..Default::default()
        })
    }

    fn notice(text: &str) -> Event {
        Event::Notice(Notice { text: text.into() })
    }

    #[test]
    fn repeated_events_are_dropped_and_new_events_are_kept() {
        let mut events = EventDedup::default();
        let before = [
            phase(0),
            notice("a teacher is away"),
            notice("a teacher is away"),
            step(0, 1, 20),
            epoch(0, 1),
            step(0, 2, 20),
        ];
        assert!(before.iter().all(|event| events.is_new(event)));
        events.reconnected();
        // The run resumes from the end of the first epoch.
        let again = [
            (Event::StateChanged(Run::default()), true),
            (phase(0), false),
            (notice("a teacher is away"), false),
            (epoch(0, 1), false),
            (notice("resumed"), true),
            (step(0, 2, 20), false),
            (step(0, 2, 40), true),
            (notice("a teacher is away"), true),
            (epoch(0, 2), true),
            (phase(1), true),
            (step(1, 1, 20), true),
        ];
        for (event, is_new) in again {
            assert_eq!(events.is_new(&event), is_new, "{event:?}");
        }
    }
}
