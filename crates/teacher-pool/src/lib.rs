//! The teachers that a run is connected to.
//!
//! Every batch goes into one queue, from which the teachers pull: a faster teacher simply takes
//! more. What a lost teacher had not answered goes back to the head of the queue; what a straggler
//! holds up goes to a second teacher as well, and the first answer wins. Each ticket gets exactly
//! one answer, so which teacher answered, and how often one was lost, leaves no trace in the result.
//!
//! - [`election`] picks the teacher whose identity all others must share, or finds one of the identity
//!   that a checkpoint names.
//! - [`discovery`] looks the endpoints up again and again, by its [`resolver`], and starts a
//!   [`member`] for each address.
//! - A member connects, checks [`health`] and who is there ([`candidate`]), and keeps a [`stream`], on which
//!   batches travel in [`parts`] where they would not fit a message.
//! - [`instances`] sees to it that a process that is reached by several addresses has one stream.
//! - The [`queue`] knows who has which batch; [`straggler`] finds what is overdue by its
//!   [`round_trip`].
//! - [`roster`] knows who is connected and tells people about it; [`watchdog`] says when training
//!   waits, and gives up when it waits for too long; [`surplus`] says when there are more teachers
//!   than batches for them.

mod back_off;
mod candidate;
mod config;
mod discovery;
mod election;
mod error;
mod health;
mod instances;
mod member;
mod observer;
mod parts;
mod queue;
mod resolver;
mod roster;
mod round_trip;
mod straggler;
mod stream;
mod surplus;
mod watchdog;

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use artifacts::manifest::TeacherIdentity;
use bytes::Bytes;
use futures::executor::block_on;
use soft_targets::SoftTargets;
use tokio::sync::oneshot;
use tokio_util::sync::{CancellationToken, DropGuard};

use candidate::Reference;
use discovery::Directory;
use instances::Instances;
use queue::BatchQueue;
use roster::Roster;

pub use config::{NumericsPolicy, PoolConfig};
pub use error::PoolError;
pub use observer::PoolObserver;
pub use parts::FEWEST_IMAGES;

/// A cheap handle to the teachers of a run. They are let go when the last handle is dropped.
#[derive(Debug, Clone)]
pub struct TeacherPool {
    shared: Arc<Shared>,
    _guard: Arc<DropGuard>,
}

/// What a run asks of a teacher.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExpectedTeacher {
    /// Shape of one image: [channels, height, width].
    pub input_shape: [usize; 3],
    /// Number of classes.
    pub classes: usize,
    /// Names of the classes, which the teacher must know, in any order; without, only their number counts.
    pub class_names: Option<Vec<String>>,
    /// Images that it will be asked for at a time, at most.
    pub largest_batch: BatchSize,
    /// Who a resumed run's teacher was, as its checkpoint says; without, the first that fits.
    pub identity: Option<TeacherIdentity>,
}

/// Images a batch, and who says so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BatchSize {
    /// 1 or more.
    pub images: usize,
    /// Key of the configuration.
    pub key: String,
}

/// A batch on its way; exactly one answer comes.
#[derive(Debug)]
#[must_use = "the answer is lost with the ticket"]
pub struct Ticket(oneshot::Receiver<Result<SoftTargets, PoolError>>);

/// How a pool does, at one moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PoolFigures {
    /// Teachers connected.
    pub connected: usize,
    /// Teachers that answer and cannot be used: another model, other numerics, wrong answers.
    pub refused: usize,
    /// Batches that wait for a teacher.
    pub waiting: usize,
    /// Batches that a teacher has.
    pub in_flight: usize,
    /// Batches answered so far.
    pub answered: u64,
    /// Times that a batch went back to the queue because its teacher was lost.
    pub requeued: u64,
    /// Batches sent to a second teacher because the first was overdue.
    pub hedged: u64,
    /// Answers that came second, and were dropped.
    pub dropped: u64,
    /// How long training waited with no teacher connected, in whole seconds.
    pub waited: Duration,
}

/// What the pool's tasks share.
#[derive(Debug)]
struct Shared {
    config: PoolConfig,
    expected: ExpectedTeacher,
    reference: Reference,
    queue: BatchQueue,
    roster: Roster,
    observer: Arc<dyn PoolObserver>,
    instances: Instances,
    /// Seconds in which training waited with no teacher connected.
    waited_seconds: AtomicU64,
    /// Cancelled when the pool is dropped.
    closed: CancellationToken,
}

impl TeacherPool {
    /// Connects, on `runtime`, and waits for a first teacher: its identity becomes the pool's, unless
    /// `expected` names one.
    ///
    /// Must not be called from an async task: it blocks.
    ///
    /// # Errors
    /// When no teacher can be used within the configured time, or at once when every teacher that
    /// there is was refused; each endpoint is named with its reason. When `cancel` is cancelled.
    pub fn connect(
        config: PoolConfig,
        expected: ExpectedTeacher,
        observer: Arc<dyn PoolObserver>,
        cancel: &CancellationToken,
        runtime: &tokio::runtime::Handle,
    ) -> Result<Self, PoolError> {
        let connect = cancel.run_until_cancelled(Self::connect_async(config, expected, observer));
        runtime
            .block_on(connect)
            .unwrap_or(Err(PoolError::Cancelled))
    }

    async fn connect_async(
        config: PoolConfig,
        expected: ExpectedTeacher,
        observer: Arc<dyn PoolObserver>,
    ) -> Result<Self, PoolError> {
        let mut directory = Directory::new(&config)?;
        let roster = Roster::new(Arc::clone(&observer));
        let reference = election::elect(&mut directory, &roster, &config, &expected).await?;
        let closed = CancellationToken::new();
        let guard = Arc::new(closed.clone().drop_guard());
        let shared = Arc::new(Shared {
            config,
            expected,
            reference,
            queue: BatchQueue::new(Arc::clone(&observer)),
            roster,
            observer,
            instances: Instances::default(),
            waited_seconds: AtomicU64::new(0),
            closed,
        });
        tokio::spawn(discovery::run(directory, Arc::clone(&shared)));
        tokio::spawn(surplus::run(Arc::clone(&shared)));
        watchdog::first_teacher(&shared).await?;
        tokio::spawn(watchdog::run(Arc::clone(&shared)));
        tokio::spawn(straggler::run(Arc::clone(&shared)));
        Ok(Self {
            shared,
            _guard: guard,
        })
    }

    /// Who the teachers are.
    pub fn identity(&self) -> &TeacherIdentity {
        &self.shared.reference.identity
    }

    /// Names of the teachers' classes, in the order of their logits.
    pub fn class_names(&self) -> &[String] {
        self.shared
            .reference
            .class_names
            .as_deref()
            .unwrap_or_default()
    }

    /// Queues one batch of u8 pixels, [batch, channels, height, width] row-major; any free teacher
    /// takes it. Never blocks: the caller bounds what is in flight.
    pub fn submit(&self, pixels: Bytes, shape: [usize; 4]) -> Ticket {
        Ticket(self.shared.queue.submit(pixels, shape))
    }

    /// Teachers connected now.
    pub fn teachers(&self) -> usize {
        self.shared.roster.connected()
    }

    /// How the pool does.
    pub fn figures(&self) -> PoolFigures {
        let counts = self.shared.queue.counts();
        PoolFigures {
            connected: self.shared.roster.connected(),
            refused: self.shared.roster.refused(),
            waiting: counts.waiting,
            in_flight: counts.in_flight,
            answered: counts.answered,
            requeued: counts.requeued,
            hedged: counts.hedged,
            dropped: counts.dropped,
            waited: Duration::from_secs(self.shared.waited_seconds.load(Ordering::Relaxed)),
        }
    }
}

impl Ticket {
    /// Waits for the answer. Must not be called from an async task: it blocks.
    ///
    /// # Errors
    /// [`PoolError::TeachersGone`] when no teacher answered for the configured time; when a teacher
    /// refused the batch, when the pool was dropped, or when `cancel` is cancelled.
    pub fn wait(self, cancel: &CancellationToken) -> Result<SoftTargets, PoolError> {
        match block_on(cancel.run_until_cancelled(self.0)) {
            Some(Ok(answer)) => answer,
            Some(Err(_)) => Err(PoolError::Closed),
            None => Err(PoolError::Cancelled),
        }
    }
}
