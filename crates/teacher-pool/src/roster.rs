//! Who is connected, who is not and why; tells people once per change.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use tokio::sync::watch;
use tracing::error;

use crate::{
    observer::PoolObserver,
    place::{Place, Standing},
};

/// Every place with its standing.
#[derive(Debug)]
pub(crate) struct Roster {
    standings: Mutex<BTreeMap<Place, Standing>>,
    /// Why each place was last away.
    losses: Mutex<BTreeMap<Place, String>>,
    connected: watch::Sender<usize>,
    /// Batches that the run has with the teachers at a time: more teachers than that have no work.
    prefetch: usize,
    surplus_reported: AtomicBool,
    observer: Arc<dyn PoolObserver>,
}

impl Roster {
    pub fn new(observer: Arc<dyn PoolObserver>, prefetch: usize) -> Self {
        Self {
            standings: Mutex::default(),
            losses: Mutex::default(),
            connected: watch::Sender::new(0),
            prefetch,
            surplus_reported: AtomicBool::new(false),
            observer,
        }
    }

    /// Notes how it stands with `place`; a change is told.
    pub fn set(&self, place: &Place, standing: Standing) {
        if let Standing::Away(reason) = &standing {
            self.losses().insert(place.clone(), reason.clone());
        }
        self.change(|standings| {
            let before = standings.insert(place.clone(), standing.clone());
            if before.as_ref() != Some(&standing) {
                self.tell(place, before.as_ref(), &standing);
            }
        });
    }

    /// Forgets a place.
    pub fn remove(&self, place: &Place) {
        self.losses().remove(place);
        self.change(|standings| drop(standings.remove(place)));
    }

    /// Forgets a place for which no endpoint stands any more, and says so.
    pub fn leave(&self, place: &Place) {
        self.remove(place);
        self.observer.notice(format!("teacher {place} has left"));
    }

    /// Teachers connected now.
    pub fn connected(&self) -> usize {
        *self.connected.borrow()
    }

    /// Places that answer and cannot be used.
    pub fn refused(&self) -> usize {
        count_refused(&self.lock())
    }

    /// Follows the number of teachers connected.
    pub fn watch_connected(&self) -> watch::Receiver<usize> {
        self.connected.subscribe()
    }

    /// Whether every place answers and none can be used.
    pub fn all_refused(&self) -> bool {
        let standings = self.lock();
        !standings.is_empty() && count_refused(&standings) == standings.len()
    }

    /// Every place with its last error, on one line.
    pub fn describe(&self) -> String {
        let losses = self.losses();
        let describe = |(place, standing): (&Place, &Standing)| match (standing, losses.get(place))
        {
            (Standing::Connected, Some(reason)) => {
                format!("{place} {standing}, and was away before: {reason}")
            }
            _ => format!("{place} {standing}"),
        };
        self.lock()
            .iter()
            .map(describe)
            .collect::<Vec<_>>()
            .join("; ")
    }

    /// Tells people something that is not about one place.
    pub fn notice(&self, text: String) {
        self.observer.notice(text);
    }

    fn tell(&self, place: &Place, before: Option<&Standing>, now: &Standing) {
        let text = format!("teacher {place} {now}");
        match (now, before) {
            // One attempt after another fails, perhaps with other words: told once.
            (Standing::Away(_), Some(Standing::Away(_) | Standing::ShuttingDown)) => return,
            // Told once it has left.
            (Standing::Released, _) => return,
            // The run goes on without it, with a configuration that somebody has to look at.
            (Standing::Refused(_), _) => error!("{text}"),
            _ => {}
        }
        self.observer.notice(text);
    }

    fn change(&self, change: impl FnOnce(&mut BTreeMap<Place, Standing>)) {
        let mut standings = self.lock();
        change(&mut standings);
        let count = count(&standings, |standing| *standing == Standing::Connected);
        self.observer.teachers(count, count_refused(&standings));
        self.connected
            .send_if_modified(|before| std::mem::replace(before, count) != count);
        if count > self.prefetch && !self.surplus_reported.swap(true, Ordering::Relaxed) {
            let prefetch = self.prefetch;
            self.notice(format!(
                "{count} teachers are connected, but teacher.prefetch keeps only {prefetch} batches in \
                 flight: raise it to use all teachers"
            ));
        }
    }

    fn losses(&self) -> std::sync::MutexGuard<'_, BTreeMap<Place, String>> {
        self.losses.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<Place, Standing>> {
        self.standings
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

fn count(standings: &BTreeMap<Place, Standing>, which: impl Fn(&Standing) -> bool) -> usize {
    standings
        .values()
        .filter(|standing| which(standing))
        .count()
}

fn count_refused(standings: &BTreeMap<Place, Standing>) -> usize {
    count(standings, |standing| {
        matches!(standing, Standing::Refused(_))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observer::tests::Notices;

    /// A roster of a run with a prefetch of 2 batches, and its notices.
    fn roster() -> (Roster, Arc<Notices>) {
        let told = Arc::new(Notices::default());
        (Roster::new(told.clone(), 2), told)
    }

    #[test]
    fn a_change_is_told_once() {
        let (roster, told) = roster();
        let place = Place::new("t:1", Some("10.0.0.7:1".parse().unwrap()));
        for standing in [
            Standing::Away("refused".into()),
            Standing::Away("timed out".into()),
            Standing::Connected,
            Standing::Connected,
            Standing::Away("broken pipe".into()),
            Standing::Refused("is model x".into()),
            Standing::Refused("is model x".into()),
            Standing::Refused("is model y".into()),
        ] {
            roster.set(&place, standing);
        }
        assert_eq!(
            *told.0.lock().unwrap(),
            [
                "teacher t:1 (10.0.0.7:1) is away: refused",
                "teacher t:1 (10.0.0.7:1) is connected",
                "teacher t:1 (10.0.0.7:1) is away: broken pipe",
                "teacher t:1 (10.0.0.7:1) is refused: it is model x",
                "teacher t:1 (10.0.0.7:1) is refused: it is model y",
            ]
        );
    }

    #[test]
    fn more_teachers_than_batches_are_reported_once() {
        let (roster, notices) = roster();
        let connect = |endpoint| roster.set(&Place::new(endpoint, None), Standing::Connected);
        for endpoint in ["a:1", "b:1", "c:1", "d:1"] {
            connect(endpoint);
        }
        assert_eq!(
            *notices.0.lock().unwrap(),
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
    fn counts_who_is_connected_and_names_the_others() {
        let (roster, _told) = roster();
        let [a, b] = ["a:1", "b:2"].map(|endpoint| Place::new(endpoint, None));
        roster.set(&a, Standing::Connected);
        roster.set(&b, Standing::Refused("knows 3 classes".into()));
        assert_eq!(roster.connected(), 1);
        assert!(!roster.all_refused());
        roster.set(&a, Standing::Away("gone".into()));
        assert_eq!(roster.connected(), 0);
        assert_eq!(
            roster.describe(),
            "a:1 is away: gone; b:2 is refused: it knows 3 classes"
        );
        roster.set(&a, Standing::Connected);
        let lost = "a:1 is connected, and was away before: gone";
        assert!(roster.describe().starts_with(lost));
        roster.remove(&a);
        assert!(roster.all_refused());
    }
}
