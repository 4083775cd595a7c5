//! The limit on the connections of a port: each connection costs memory, used or not.

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

use super::activity::{Activity, Slot, SlotSource};

/// Connections above the limit, which get answers to probes and scrapes only.
const PROBE_RESERVE: usize = 16;
/// How often a port that is full up to the reserve looks for a connection to close.
const RECHECK_INTERVAL: Duration = Duration::from_millis(100);
/// Shortest time between two warnings that a port is full.
const WARNING_INTERVAL: Duration = Duration::from_secs(10);

/// The connections of one port, and the slots that limit their number.
///
/// When the port is full, a new connection takes the slot of the connection that has been idle longest.
/// When every connection has a call, the port accepts a few more, which get answers to probes only; see
/// [`Activity::begin`].
pub(super) struct ConnectionSlots {
    port: &'static str,
    limit: usize,
    stop: CancellationToken,
    /// One permit for each connection that may have any call.
    slots: Arc<Semaphore>,
    /// One permit for each open connection, including closing ones.
    open: Arc<Semaphore>,
    connections: Mutex<Connections>,
}

#[derive(Default)]
struct Connections {
    by_number: BTreeMap<u64, Arc<Activity>>,
    next_number: u64,
    last_warning: Option<Instant>,
}

impl ConnectionSlots {
    /// At most `limit` connections, which end when `stop` is cancelled.
    pub(super) fn new(port: &'static str, limit: usize, stop: CancellationToken) -> Arc<Self> {
        Arc::new(Self {
            port,
            limit,
            stop,
            slots: Arc::new(Semaphore::new(limit)),
            open: Arc::new(Semaphore::new(limit + PROBE_RESERVE)),
            connections: Mutex::default(),
        })
    }

    fn lock(&self) -> MutexGuard<'_, Connections> {
        // Holds: no code panics while it has the lock.
        self.connections
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Registers a new connection. Waits only while the port is full up to [`PROBE_RESERVE`] and every
    /// connection has a call.
    pub(super) async fn register(self: &Arc<Self>) -> Registration {
        let open = self.acquire_open().await;
        let close = self.stop.child_token();
        let source: Weak<Self> = Arc::downgrade(self);
        let activity = Arc::new(Activity::new(source, self.take(), close));
        let mut connections = self.lock();
        let number = connections.next_number;
        connections.next_number += 1;
        connections.by_number.insert(number, Arc::clone(&activity));
        drop(connections);
        Registration {
            activity,
            number,
            slots: Arc::clone(self),
            _open: open,
        }
    }

    async fn acquire_open(&self) -> OwnedSemaphorePermit {
        loop {
            if let Ok(open) = Arc::clone(&self.open).try_acquire_owned() {
                return open;
            }
            if let Some(idlest) = self.longest_idle(|_| true) {
                idlest.abort.cancel();
            } else {
                self.warn_full("every connection has a call; new ones wait");
            }
            let free = timeout(RECHECK_INTERVAL, Arc::clone(&self.open).acquire_owned());
            // Holds: no code closes the semaphore.
            if let Ok(Ok(open)) = free.await {
                return open;
            }
        }
    }

    fn take_from_longest_idle(&self) -> Option<Slot> {
        loop {
            let Some(idlest) = self.longest_idle(Activity::holds_slot) else {
                self.warn_full("every connection has a call; new ones get answers to probes only");
                return None;
            };
            if let Some(slot) = idlest.hand_over_slot() {
                self.warn_full("a new connection replaces the one that has been idle longest");
                return Some(slot);
            }
        }
    }

    fn longest_idle(&self, wanted: impl Fn(&Activity) -> bool) -> Option<Arc<Activity>> {
        let connections = self.lock();
        let idle = connections.by_number.values().filter_map(|activity| {
            let since = activity.idle_since().filter(|_| wanted(activity))?;
            Some((since, activity))
        });
        let idlest = idle.min_by_key(|(since, _)| *since);
        idlest.map(|(_, activity)| Arc::clone(activity))
    }

    fn warn_full(&self, consequence: &str) {
        let now = Instant::now();
        let last_warning = &mut self.lock().last_warning;
        if last_warning.is_none_or(|last| now - last >= WARNING_INTERVAL) {
            *last_warning = Some(now);
            let (port, limit) = (self.port, self.limit);
            warn!(port, limit, "too many connections: {consequence}");
        }
    }

    /// Waits until every connection has ended.
    pub(super) async fn emptied(&self) {
        let all = u32::try_from(self.limit + PROBE_RESERVE).unwrap_or(u32::MAX);
        // Holds: no code closes the semaphore.
        let _ = self.open.acquire_many(all).await;
    }
}

impl SlotSource for ConnectionSlots {
    fn take(&self) -> Option<Slot> {
        let free = Arc::clone(&self.slots).try_acquire_owned().ok();
        free.or_else(|| self.take_from_longest_idle())
    }
}

/// An open connection of a port; dropping this unregisters it.
pub(super) struct Registration {
    pub(super) activity: Arc<Activity>,
    number: u64,
    slots: Arc<ConnectionSlots>,
    _open: OwnedSemaphorePermit,
}

impl Drop for Registration {
    fn drop(&mut self) {
        // Before the connection is removed, and although an ended call may keep the activity for a moment: a new
        // connection must find either this one, or its slot.
        self.activity.release_slot();
        self.slots.lock().by_number.remove(&self.number);
    }
}
