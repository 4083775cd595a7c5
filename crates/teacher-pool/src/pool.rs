//! A run's handle to its teachers.

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

use crate::{
    config::PoolConfig, directory::Directory, discovery, election, error::PoolError,
    expected::ExpectedTeacher, instances::Instances, observer::PoolObserver, queue::BatchQueue,
    roster::Roster, shared::Shared, straggler, watchdog,
};

/// A cheap handle to the teachers of a run. They are let go when the last handle is dropped.
#[derive(Debug, Clone)]
pub struct TeacherPool {
    shared: Arc<Shared>,
    _guard: Arc<DropGuard>,
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
        let roster = Roster::new(Arc::clone(&observer), config.prefetch);
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
