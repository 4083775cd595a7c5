//! Connections of which a port may have so many at a time: each costs memory, used or not.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, timeout},
};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::activity::{Activity, PlaceSupply};

/// Connections above the limit, on which only probes and scrapes are answered.
const RESERVE: usize = 16;
/// How soon a full port looks again for a connection that can be closed.
const LOOK_AGAIN: Duration = Duration::from_millis(100);
/// A port that stays full says so once in this time.
const NOTICE_INTERVAL: Duration = Duration::from_secs(10);

/// The connections of one port.
///
/// When the port is full, the connection that has had no call for the longest time gives its place to
/// a new one. When every connection has a call, a few more are accepted on which only probes are
/// answered; see [`Activity::begin`].
pub(super) struct Places {
    port: &'static str,
    limit: usize,
    stop: CancellationToken,
    /// Those that may have any call.
    places: Arc<Semaphore>,
    /// Every connection, also one that is being closed.
    open: Arc<Semaphore>,
    connections: Mutex<Connections>,
}

#[derive(Default)]
struct Connections {
    by_number: BTreeMap<u64, Arc<Activity>>,
    next_number: u64,
    noticed: Option<Instant>,
}

impl Places {
    /// At most `limit` connections, which end when `stop` is cancelled.
    pub(super) fn new(port: &'static str, limit: usize, stop: CancellationToken) -> Arc<Self> {
        Arc::new(Self {
            port,
            limit,
            stop,
            places: Arc::new(Semaphore::new(limit)),
            open: Arc::new(Semaphore::new(limit + RESERVE)),
            connections: Mutex::default(),
        })
    }

    fn lock(&self) -> MutexGuard<'_, Connections> {
        // Holds: nothing panics while it has the lock.
        self.connections
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes in a connection. Waits only while there are [`RESERVE`] connections too many already, and
    /// each of them has a call.
    pub(super) async fn admit(self: &Arc<Self>) -> Admitted {
        let open = self.open().await;
        let close = self.stop.child_token();
        let supply: Weak<Self> = Arc::downgrade(self);
        let activity = Arc::new(Activity::new(supply, self.take(), close));
        let mut connections = self.lock();
        let number = connections.next_number;
        connections.next_number += 1;
        connections.by_number.insert(number, Arc::clone(&activity));
        drop(connections);
        Admitted {
            activity,
            number,
            places: Arc::clone(self),
            _open: open,
        }
    }

    async fn open(&self) -> OwnedSemaphorePermit {
        loop {
            if let Ok(open) = Arc::clone(&self.open).try_acquire_owned() {
                return open;
            }
            if let Some(idlest) = self.idlest(|_| true) {
                idlest.cut.cancel();
            } else {
                self.notice("every connection has a call; new ones wait");
            }
            let free = timeout(LOOK_AGAIN, Arc::clone(&self.open).acquire_owned());
            // Holds: nothing closes the semaphore.
            if let Ok(Ok(open)) = free.await {
                return open;
            }
        }
    }

    fn place_of_idlest(&self) -> Option<OwnedSemaphorePermit> {
        loop {
            let Some(idlest) = self.idlest(Activity::has_place) else {
                self.notice("every connection has a call; new ones are answered probes only");
                return None;
            };
            if let Some(place) = idlest.give_place_away() {
                self.notice(
                    "the connection that was idle for the longest time is closed for a new one",
                );
                return Some(place);
            }
        }
    }

    fn idlest(&self, wanted: impl Fn(&Activity) -> bool) -> Option<Arc<Activity>> {
        let connections = self.lock();
        let idle = connections.by_number.values().filter_map(|activity| {
            let since = activity.idle_since().filter(|_| wanted(activity))?;
            Some((since, activity))
        });
        let idlest = idle.min_by_key(|(since, _)| *since);
        idlest.map(|(_, activity)| Arc::clone(activity))
    }

    fn notice(&self, consequence: &str) {
        let now = Instant::now();
        let noticed = &mut self.lock().noticed;
        if noticed.is_none_or(|noticed| now - noticed >= NOTICE_INTERVAL) {
            *noticed = Some(now);
            let (port, limit) = (self.port, self.limit);
            warn!(port, limit, "too many connections: {consequence}");
        }
    }

    /// Waits until every connection has ended.
    pub(super) async fn emptied(&self) {
        let all = u32::try_from(self.limit + RESERVE).unwrap_or(u32::MAX);
        // Holds: nothing closes the semaphore.
        let _ = self.open.acquire_many(all).await;
    }
}

impl PlaceSupply for Places {
    fn take(&self) -> Option<OwnedSemaphorePermit> {
        let free = Arc::clone(&self.places).try_acquire_owned().ok();
        free.or_else(|| self.place_of_idlest())
    }
}

/// A connection that was taken in; leaves when this is dropped.
pub(super) struct Admitted {
    pub(super) activity: Arc<Activity>,
    number: u64,
    places: Arc<Places>,
    _open: OwnedSemaphorePermit,
}

impl Drop for Admitted {
    fn drop(&mut self) {
        self.places.lock().by_number.remove(&self.number);
    }
}
