//! The status of every teacher. Reports each change once.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use tokio::sync::watch;
use tracing::error;

use crate::{
    observer::PoolObserver,
    teacher::{TeacherAddress, TeacherStatus},
};

/// The status of every teacher.
#[derive(Debug)]
pub(crate) struct Roster {
    entries: Mutex<Entries>,
    connected: watch::Sender<usize>,
    /// Batches that the run keeps in flight: more teachers than that are idle.
    prefetch: usize,
    surplus_reported: AtomicBool,
    observer: Arc<dyn PoolObserver>,
}

type Entries = BTreeMap<TeacherAddress, Entry>;

#[derive(Debug)]
struct Entry {
    status: TeacherStatus,
    /// Why the teacher was last unavailable.
    last_loss: Option<String>,
}

impl Roster {
    pub fn new(observer: Arc<dyn PoolObserver>, prefetch: usize) -> Self {
        Self {
            entries: Mutex::default(),
            connected: watch::Sender::new(0),
            prefetch,
            surplus_reported: AtomicBool::new(false),
            observer,
        }
    }

    /// Sets the status of `teacher` and reports a change.
    pub fn set(&self, teacher: &TeacherAddress, status: TeacherStatus) {
        let mut entries = self.lock();
        let before = entries.get(teacher);
        if before.is_none_or(|entry| entry.status != status) {
            self.report(teacher, before.map(|entry| &entry.status), &status);
        }
        let last_loss = match &status {
            TeacherStatus::Unavailable(reason) => Some(reason.clone()),
            _ => before.and_then(|entry| entry.last_loss.clone()),
        };
        entries.insert(teacher.clone(), Entry { status, last_loss });
        self.report_counts(&entries);
    }

    /// Removes an address.
    pub fn remove(&self, teacher: &TeacherAddress) {
        let mut entries = self.lock();
        entries.remove(teacher);
        self.report_counts(&entries);
    }

    /// Removes an address to which no endpoint resolves any more, and reports it.
    pub fn report_left(&self, teacher: &TeacherAddress) {
        self.remove(teacher);
        self.observer.notice(format!("teacher {teacher} has left"));
    }

    /// Returns the number of connected teachers.
    pub fn connected(&self) -> usize {
        *self.connected.borrow()
    }

    /// Follows the number of connected teachers.
    pub fn watch_connected(&self) -> watch::Receiver<usize> {
        self.connected.subscribe()
    }

    /// Whether every address answers and every teacher is refused.
    pub fn all_refused(&self) -> bool {
        let entries = self.lock();
        !entries.is_empty() && entries.values().all(Entry::is_refused)
    }

    /// Describes every address with its status and last error, on one line.
    pub fn describe(&self) -> String {
        let describe = |(teacher, entry): (&TeacherAddress, &Entry)| {
            let Entry { status, last_loss } = entry;
            match (status, last_loss) {
                (TeacherStatus::Connected, Some(reason)) => {
                    format!("{teacher} {status} (last loss: {reason})")
                }
                _ => format!("{teacher} {status}"),
            }
        };
        let lines: Vec<_> = self.lock().iter().map(describe).collect();
        lines.join("; ")
    }

    fn report(
        &self,
        teacher: &TeacherAddress,
        before: Option<&TeacherStatus>,
        now: &TeacherStatus,
    ) {
        use TeacherStatus::{Refused, Removed, ShuttingDown, Unavailable};
        let text = format!("teacher {teacher} {now}");
        match (now, before) {
            // One attempt after another fails, perhaps for different reasons: only the first is reported.
            (Unavailable(_), Some(Unavailable(_) | ShuttingDown)) => return,
            // Reported when the teacher has left.
            (Removed, _) => return,
            // The run continues without this teacher, but its configuration needs attention.
            (Refused(_), _) => error!("{text}"),
            _ => {}
        }
        self.observer.notice(text);
    }

    fn report_counts(&self, entries: &Entries) {
        let count = |counts: fn(&Entry) -> bool| entries.values().filter(|e| counts(e)).count();
        let connected = count(Entry::is_connected);
        self.observer.teachers(connected, count(Entry::is_refused));
        self.connected
            .send_if_modified(|before| std::mem::replace(before, connected) != connected);
        let prefetch = self.prefetch;
        if connected > prefetch && !self.surplus_reported.swap(true, Ordering::Relaxed) {
            self.observer.notice(format!(
                "{connected} teachers are connected, but teacher.prefetch keeps only {prefetch} batches in \
                 flight: raise it to use all teachers"
            ));
        }
    }

    fn lock(&self) -> MutexGuard<'_, Entries> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Entry {
    fn is_connected(&self) -> bool {
        self.status == TeacherStatus::Connected
    }

    fn is_refused(&self) -> bool {
        matches!(self.status, TeacherStatus::Refused(_))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observer::tests::Recorder;

    /// A roster of a run with a prefetch of 2 batches, and what it reports.
    fn roster() -> (Roster, Arc<Recorder>) {
        let recorder = Arc::new(Recorder::default());
        (Roster::new(recorder.clone(), 2), recorder)
    }

    #[test]
    fn a_change_is_reported_once() {
        let (roster, recorder) = roster();
        let teacher = TeacherAddress::new("t:1", Some("10.0.0.7:1".parse().unwrap()));
        for status in [
            TeacherStatus::Unavailable("refused".into()),
            TeacherStatus::Unavailable("timed out".into()),
            TeacherStatus::Connected,
            TeacherStatus::Connected,
            TeacherStatus::Unavailable("broken pipe".into()),
            TeacherStatus::Refused("is model x".into()),
            TeacherStatus::Refused("is model x".into()),
            TeacherStatus::Refused("is model y".into()),
        ] {
            roster.set(&teacher, status);
        }
        assert_eq!(
            recorder.notices(),
            [
                "teacher t:1 (10.0.0.7:1) is unavailable: refused",
                "teacher t:1 (10.0.0.7:1) is connected",
                "teacher t:1 (10.0.0.7:1) is unavailable: broken pipe",
                "teacher t:1 (10.0.0.7:1) is refused: it is model x",
                "teacher t:1 (10.0.0.7:1) is refused: it is model y",
            ]
        );
    }

    #[test]
    fn more_teachers_than_batches_are_reported_once() {
        let (roster, recorder) = roster();
        for endpoint in ["a:1", "b:1", "c:1", "d:1"] {
            let teacher = TeacherAddress::new(endpoint, None);
            roster.set(&teacher, TeacherStatus::Connected);
        }
        assert_eq!(
            recorder.notices(),
            [
                "teacher a:1 is connected",
                "teacher b:1 is connected",
                "teacher c:1 is connected",
                "3 teachers are connected, but teacher.prefetch keeps only 2 batches in flight: raise \
                 it to use all teachers",
                "teacher d:1 is connected",
            ]
        );
    }

    #[test]
    fn counts_connected_teachers_and_describes_all() {
        let (roster, recorder) = roster();
        let [a, b] = ["a:1", "b:2"].map(|endpoint| TeacherAddress::new(endpoint, None));
        roster.set(&a, TeacherStatus::Connected);
        roster.set(&b, TeacherStatus::Refused("knows 3 classes".into()));
        assert_eq!(roster.connected(), 1);
        assert_eq!(recorder.teachers(), (1, 1));
        assert!(!roster.all_refused());
        roster.set(&a, TeacherStatus::Unavailable("broken pipe".into()));
        assert_eq!(roster.connected(), 0);
        assert_eq!(
            roster.describe(),
            "a:1 is unavailable: broken pipe; b:2 is refused: it knows 3 classes"
        );
        roster.set(&a, TeacherStatus::Connected);
        let lost_before = "a:1 is connected (last loss: broken pipe); ";
        assert!(roster.describe().starts_with(lost_before));
        roster.remove(&a);
        assert!(roster.all_refused());
        assert_eq!(recorder.teachers(), (0, 1));
    }
}
