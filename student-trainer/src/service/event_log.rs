//! The events of a run: stored for later watchers, streamed to current ones.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use futures::{Stream, stream};
use proto::runs::v1::{RunState, watch_run_response::Event};
use tokio::sync::watch;

/// Number of notices that are stored; older ones are dropped.
const KEPT_NOTICES: usize = 1_000;

/// The events of one run, in order.
///
/// Memory is bounded: the log stores the newest step progress and the newest 1,000 notices; the
/// configuration bounds the number of phases, epochs and states. A slow watcher skips step progress and
/// does not delay others.
pub(super) struct EventLog {
    entries: Mutex<Entries>,
    newest: watch::Sender<u64>,
}

#[derive(Default)]
struct Entries {
    by_position: BTreeMap<u64, Event>,
    last: u64,
    newest_step: Option<u64>,
    notices: VecDeque<u64>,
    closed: bool,
}

/// The event after a position, if any.
enum Next {
    Event(u64, Event),
    NotYet,
    Never,
}

impl EventLog {
    pub(super) fn new() -> Self {
        Self {
            entries: Mutex::default(),
            newest: watch::Sender::new(0),
        }
    }

    /// Appends `event` and wakes the watchers.
    pub(super) fn record(&self, event: Event) {
        let position = self.lock().append(event);
        self.newest.send_replace(position);
    }

    /// Ends every watcher's stream after the events so far.
    pub(super) fn close(&self) {
        self.lock().closed = true;
        self.newest.send_modify(|_| {});
    }

    /// All events so far, then new ones, until the event that ends the run or until the log is closed.
    pub(super) fn follow(self: Arc<Self>) -> impl Stream<Item = Event> + Send + 'static {
        let changes = self.newest.subscribe();
        stream::unfold(Some((self, changes, 0)), |watcher| async move {
            let (log, mut changes, mut position) = watcher?;
            loop {
                match log.after(position) {
                    Next::Event(found, event) => {
                        position = found;
                        let next = (!is_end(&event)).then_some((log, changes, position));
                        return Some((event, next));
                    }
                    Next::NotYet => changes.changed().await.ok()?,
                    Next::Never => return None,
                }
            }
        })
    }

    fn after(&self, position: u64) -> Next {
        let entries = self.lock();
        match entries.by_position.range(position + 1..).next() {
            Some((position, event)) => Next::Event(*position, event.clone()),
            None if entries.closed => Next::Never,
            None => Next::NotYet,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Entries> {
        // A panic elsewhere does not damage the entries: every change is complete before the unlock.
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Entries {
    fn append(&mut self, event: Event) -> u64 {
        self.last += 1;
        let outdated = match event {
            Event::StepProgress(_) => self.newest_step.replace(self.last),
            Event::Notice(_) => {
                self.notices.push_back(self.last);
                if self.notices.len() > KEPT_NOTICES {
                    self.notices.pop_front()
                } else {
                    None
                }
            }
            Event::StateChanged(_) | Event::PhaseStarted(_) | Event::EpochFinished(_) => None,
        };
        if let Some(position) = outdated {
            self.by_position.remove(&position);
        }
        self.by_position.insert(self.last, event);
        self.last
    }
}

/// Whether `event` is the last one of its run.
fn is_end(event: &Event) -> bool {
    match event {
        Event::StateChanged(run) => is_final(run.state()),
        _ => false,
    }
}

/// Whether a run in `state` stays in it.
pub(super) fn is_final(state: RunState) -> bool {
    match state {
        RunState::Succeeded | RunState::Failed | RunState::Cancelled => true,
        RunState::Unspecified | RunState::Queued | RunState::Running => false,
    }
}

#[cfg(test)]
mod tests {
    use futures::StreamExt;
    use proto::runs::v1::{EpochFinished, Notice, Run, StepProgress};

    use super::*;

    fn state(state: RunState) -> Event {
        Event::StateChanged(Run {
            state: state.into(),
            ..Default::default()
        })
    }

    fn step(step: u64) -> Event {
        Event::StepProgress(StepProgress {
            step,
            ..Default::default()
        })
    }

    fn epoch(epoch: u32) -> Event {
        Event::EpochFinished(EpochFinished {
            epoch,
            ..Default::default()
        })
    }

    fn notice(number: usize) -> Event {
        Event::Notice(Notice {
            text: number.to_string(),
        })
    }

    #[tokio::test]
    async fn a_late_watcher_gets_all_but_outdated_steps_and_the_stream_ends() {
        let log = Arc::new(EventLog::new());
        for event in [
            state(RunState::Running),
            step(1),
            step(2),
            epoch(1),
            step(3),
        ] {
            log.record(event);
        }
        log.record(state(RunState::Succeeded));
        let events: Vec<Event> = log.follow().collect().await;
        let expected = [
            state(RunState::Running),
            epoch(1),
            step(3),
            state(RunState::Succeeded),
        ];
        assert_eq!(events, expected);
    }

    #[tokio::test]
    async fn a_closed_log_ends_behind_what_it_has() {
        let log = Arc::new(EventLog::new());
        let early: Vec<Event> = {
            let follower = tokio::spawn(Arc::clone(&log).follow().collect());
            log.record(epoch(1));
            log.close();
            follower.await.unwrap()
        };
        let late: Vec<Event> = log.follow().collect().await;
        assert_eq!((early, late), (vec![epoch(1)], vec![epoch(1)]));
    }

    #[tokio::test]
    async fn a_watcher_from_the_start_gets_every_step_that_it_keeps_up_with() {
        let log = Arc::new(EventLog::new());
        let mut events = Box::pin(Arc::clone(&log).follow());
        for number in 1..4 {
            log.record(step(number));
            assert_eq!(events.next().await, Some(step(number)));
        }
        log.record(state(RunState::Cancelled));
        assert_eq!(events.next().await, Some(state(RunState::Cancelled)));
        assert_eq!(events.next().await, None);
    }

    #[tokio::test]
    async fn memory_is_bounded() {
        let log = Arc::new(EventLog::new());
        for number in 0..3 * KEPT_NOTICES {
            log.record(notice(number));
            log.record(step(0));
        }
        log.record(state(RunState::Failed));
        assert_eq!(log.lock().by_position.len(), KEPT_NOTICES + 2);
        let first = log.follow().boxed().next().await;
        assert_eq!(first, Some(notice(2 * KEPT_NOTICES)));
    }
}
