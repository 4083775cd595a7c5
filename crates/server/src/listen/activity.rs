//! The activity of one connection: whether the server may close it, and whether it may have another call.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use tokio::{
    sync::OwnedSemaphorePermit,
    time::{Instant, sleep},
};
use tokio_util::sync::CancellationToken;

/// A closing connection without a call ends when it has sent and received nothing for this long. Half a
/// request may wait for its other half for as long.
pub(super) const QUIET: Duration = Duration::from_millis(500);

/// The time limit of [`QUIET`] for a client that does not read its answer.
const SEND_BLOCKED: Duration = Duration::from_secs(5);

/// Paths of health checks and metrics. A full port answers them too.
const PROBES: [&str; 6] = [
    "/grpc.health.v1.Health/Check",
    "/inference.GRPCInferenceService/ServerLive",
    "/inference.GRPCInferenceService/ServerReady",
    "/metrics",
    "/v2/health/live",
    "/v2/health/ready",
];

/// A permit for one of the connections that a port may have.
pub(super) type Slot = OwnedSemaphorePermit;

/// Provides slots for connections that were accepted without one.
pub(super) trait SlotSource: Send + Sync {
    /// Takes a free slot, or that of the connection that has been idle longest. Returns `None` if every
    /// connection has a call.
    fn take(&self) -> Option<Slot>;
}

/// The activity of one connection.
#[derive(Debug)]
pub(super) struct Activity {
    state: Mutex<State>,
    /// The slots of the port.
    slots: Weak<dyn SlotSource>,
    /// Cancelled when the connection must end after its current calls.
    pub(super) close: CancellationToken,
    /// Cancelled when the connection must end at once.
    pub(super) abort: CancellationToken,
}

#[derive(Debug)]
struct State {
    slot: SlotState,
    calls: usize,
    /// When the last call ended, or the connection was accepted.
    idle_since: Instant,
    /// When bytes were last received or sent.
    last_transfer: Instant,
    /// Bytes wait until the client reads.
    send_blocked: bool,
}

/// Whether a connection counts towards the limit of its port.
#[derive(Debug)]
enum SlotState {
    Held(Slot),
    /// The port is full: the connection gets answers to probes only.
    Missing,
    /// Another connection has the slot; this one is closing.
    HandedOver,
}

impl Activity {
    /// A new connection with its slot, if it has one.
    pub(super) fn new(
        slots: Weak<dyn SlotSource>,
        slot: Option<Slot>,
        close: CancellationToken,
    ) -> Self {
        let now = Instant::now();
        Self {
            state: Mutex::new(State {
                slot: slot.map_or(SlotState::Missing, SlotState::Held),
                calls: 0,
                idle_since: now,
                last_transfer: now,
                send_blocked: false,
            }),
            slots,
            close,
            abort: CancellationToken::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Holds: no code panics while it has the lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins a call of `path`, which ends when the returned value is dropped. A connection without a
    /// slot takes a free one, or that of an idle connection. Returns `None` if no slot is available and
    /// the call is no probe.
    pub(super) fn begin(self: &Arc<Self>, path: &str) -> Option<Call> {
        // Before `lock`: the search for an idle connection locks too.
        let slot = self
            .lacks_slot()
            .then(|| self.slots.upgrade()?.take())
            .flatten();
        let mut state = self.lock();
        if let (SlotState::Missing, Some(slot)) = (&state.slot, slot) {
            state.slot = SlotState::Held(slot);
        }
        if matches!(state.slot, SlotState::Missing) && !PROBES.contains(&path) {
            return None;
        }
        state.calls += 1;
        Some(Call(Arc::clone(self)))
    }

    /// Records that bytes were received.
    pub(super) fn received(&self) {
        self.lock().last_transfer = Instant::now();
    }

    /// Records that bytes were sent.
    pub(super) fn sent(&self) {
        let mut state = self.lock();
        state.last_transfer = Instant::now();
        state.send_blocked = false;
    }

    /// Records that bytes cannot be sent, because the client does not read.
    pub(super) fn send_blocked(&self) {
        self.lock().send_blocked = true;
    }

    /// When the connection became idle; `None` while it has a call or an unsent answer.
    pub(super) fn idle_since(&self) -> Option<Instant> {
        let state = self.lock();
        (state.calls == 0 && !state.send_blocked).then_some(state.idle_since)
    }

    fn lacks_slot(&self) -> bool {
        matches!(self.lock().slot, SlotState::Missing)
    }

    /// Whether the connection holds a slot.
    pub(super) fn holds_slot(&self) -> bool {
        matches!(self.lock().slot, SlotState::Held(_))
    }

    /// Gives up the slot and closes the connection, unless a call has begun in the meantime.
    pub(super) fn hand_over_slot(&self) -> Option<Slot> {
        let mut state = self.lock();
        if state.calls > 0 {
            return None;
        }
        match std::mem::replace(&mut state.slot, SlotState::HandedOver) {
            SlotState::Held(slot) => {
                self.close.cancel();
                Some(slot)
            }
            other => {
                state.slot = other;
                None
            }
        }
    }

    /// Frees the slot of a connection that has ended.
    pub(super) fn release_slot(&self) {
        let slot = std::mem::replace(&mut self.lock().slot, SlotState::HandedOver);
        drop(slot);
    }

    /// Waits until the connection must end: it is closing and has nothing left to do, or it is aborted.
    pub(super) async fn ended(&self) {
        tokio::select! {
            () = self.abort.cancelled() => return,
            () = self.close.cancelled() => {}
        }
        let closing_since = Instant::now();
        tokio::select! {
            () = self.abort.cancelled() => {}
            () = self.quiet(closing_since) => {}
        }
    }

    /// Waits until the connection has no call and has been quiet for long enough.
    async fn quiet(&self, closing_since: Instant) {
        loop {
            let wait = {
                let state = self.lock();
                let limit = if state.send_blocked {
                    SEND_BLOCKED
                } else {
                    QUIET
                };
                let quiet_since = state.last_transfer.max(state.idle_since).max(closing_since);
                let end = quiet_since + limit;
                match end.checked_duration_since(Instant::now()) {
                    _ if state.calls > 0 => QUIET,
                    Some(wait) if !wait.is_zero() => wait,
                    _ => return,
                }
            };
            sleep(wait).await;
        }
    }
}

/// A call in progress; it ends when this is dropped.
#[derive(Debug)]
pub(super) struct Call(Arc<Activity>);

impl Drop for Call {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.calls -= 1;
        state.idle_since = Instant::now();
    }
}
