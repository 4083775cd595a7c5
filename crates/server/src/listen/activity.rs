//! What one connection is doing: whether it may be closed, and whether it may have another call.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use tokio::{
    sync::OwnedSemaphorePermit,
    time::{Instant, sleep},
};
use tokio_util::sync::CancellationToken;

/// A connection that is to be closed, has no call under way, and neither sends nor receives for so
/// long, is closed at once. Half a request may wait for its other half for as long.
pub(super) const QUIET: Duration = Duration::from_millis(500);

/// As [`QUIET`], for a client that does not read its answer.
const UNREAD: Duration = Duration::from_secs(5);

/// Paths that tell whether the service is well. They are answered on a full port, too.
const PROBES: [&str; 6] = [
    "/grpc.health.v1.Health/Check",
    "/inference.GRPCInferenceService/ServerLive",
    "/inference.GRPCInferenceService/ServerReady",
    "/metrics",
    "/v2/health/live",
    "/v2/health/ready",
];

/// Gives places to connections that were accepted without one.
pub(super) trait PlaceSupply: Send + Sync {
    /// A free place, or that of the connection that has been idle for the longest time. `None` where
    /// every connection has a call.
    fn take(&self) -> Option<OwnedSemaphorePermit>;
}

/// What one connection is doing.
#[derive(Debug)]
pub(super) struct Activity {
    state: Mutex<State>,
    /// The places of the port's connections.
    places: Weak<dyn PlaceSupply>,
    /// Cancelled when the connection is to end after the calls that it has.
    pub(super) close: CancellationToken,
    /// Cancelled when it is to end at once.
    pub(super) cut: CancellationToken,
}

#[derive(Debug)]
struct State {
    place: Place,
    calls: usize,
    /// When the last call ended, or the connection was accepted.
    idle_since: Instant,
    /// When bytes last came or went.
    heard: Instant,
    /// Bytes wait until the client reads.
    unread: bool,
}

/// Whether a connection counts among those that a port may have.
#[derive(Debug)]
enum Place {
    Taken(OwnedSemaphorePermit),
    /// The port is full: probes only.
    None,
    /// Given to another connection; this one is being closed.
    GivenAway,
}

impl Activity {
    /// Of a connection that begins, with its place, where there is one.
    pub(super) fn new(
        places: Weak<dyn PlaceSupply>,
        place: Option<OwnedSemaphorePermit>,
        close: CancellationToken,
    ) -> Self {
        let now = Instant::now();
        Self {
            state: Mutex::new(State {
                place: place.map_or(Place::None, Place::Taken),
                calls: 0,
                idle_since: now,
                heard: now,
                unread: false,
            }),
            places,
            close,
            cut: CancellationToken::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Holds: nothing panics while it has the lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins a call of `path`; it ends when the returned value is dropped. A connection without a
    /// place takes a free one, or that of an idle connection. `None` where every place has a call and
    /// the call is no probe.
    pub(super) fn begin(self: &Arc<Self>, path: &str) -> Option<Call> {
        // Without the lock, which the search for an idle connection takes.
        let place = self
            .lacks_place()
            .then(|| self.places.upgrade()?.take())
            .flatten();
        let mut state = self.lock();
        if let (Place::None, Some(place)) = (&state.place, place) {
            state.place = Place::Taken(place);
        }
        if matches!(state.place, Place::None) && !PROBES.contains(&path) {
            return None;
        }
        state.calls += 1;
        Some(Call(Arc::clone(self)))
    }

    /// Bytes came.
    pub(super) fn received(&self) {
        self.lock().heard = Instant::now();
    }

    /// Bytes went.
    pub(super) fn sent(&self) {
        let mut state = self.lock();
        state.heard = Instant::now();
        state.unread = false;
    }

    /// Bytes cannot be sent, because the client does not read.
    pub(super) fn unread(&self) {
        self.lock().unread = true;
    }

    /// Since when it has no call; `None` while it has one, or an answer that is not sent yet.
    pub(super) fn idle_since(&self) -> Option<Instant> {
        let state = self.lock();
        (state.calls == 0 && !state.unread).then_some(state.idle_since)
    }

    fn lacks_place(&self) -> bool {
        matches!(self.lock().place, Place::None)
    }

    /// Whether it has a place that it can give away.
    pub(super) fn has_place(&self) -> bool {
        matches!(self.lock().place, Place::Taken(_))
    }

    /// Gives its place away and ends it, unless it has been given a call meanwhile.
    pub(super) fn give_place_away(&self) -> Option<OwnedSemaphorePermit> {
        let mut state = self.lock();
        if state.calls > 0 {
            return None;
        }
        match std::mem::replace(&mut state.place, Place::GivenAway) {
            Place::Taken(place) => {
                self.close.cancel();
                Some(place)
            }
            other => {
                state.place = other;
                None
            }
        }
    }

    /// Waits until the connection is to be closed and has nothing left to do, or is to end at once.
    pub(super) async fn over(&self) {
        tokio::select! {
            () = self.cut.cancelled() => return,
            () = self.close.cancelled() => {}
        }
        let began = Instant::now();
        tokio::select! {
            () = self.cut.cancelled() => {}
            () = self.quiet_since(began) => {}
        }
    }

    async fn quiet_since(&self, began: Instant) {
        loop {
            let wait = {
                let state = self.lock();
                let patience = if state.unread { UNREAD } else { QUIET };
                let since = state.heard.max(state.idle_since).max(began);
                let over = since + patience;
                match over.checked_duration_since(Instant::now()) {
                    _ if state.calls > 0 => QUIET,
                    Some(wait) if !wait.is_zero() => wait,
                    _ => return,
                }
            };
            sleep(wait).await;
        }
    }
}

/// A call under way; ends when it is dropped.
#[derive(Debug)]
pub(super) struct Call(Arc<Activity>);

impl Drop for Call {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.calls -= 1;
        state.idle_since = Instant::now();
    }
}
