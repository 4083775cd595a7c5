//! A run's handle to its teachers.

use std::sync::Arc;

use artifacts::manifest::TeacherIdentity;
use datasets::Interpolation;
use futures::executor::block_on;
use soft_targets::{Encoding, SoftTargets};
use tensors::TensorSpec;
use tokio::sync::oneshot;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::{
    batch::TeacherBatch, config::PoolConfig, directory::Directory, discovery, error::PoolError,
    expected::ExpectedTeacher, hedging, instances::Instances, observer::PoolObserver,
    queue::BatchQueue, reference_search, roster::Roster, shared::Shared, watchdog,
};

/// A cheap handle to the teachers of a run. The pool disconnects from them when the last handle is dropped.
#[derive(Debug, Clone)]
pub struct TeacherPool {
    shared: Arc<Shared>,
    _guard: Arc<DropGuard>,
}

/// The claim to the answer of one submitted batch.
#[derive(Debug)]
#[must_use = "the answer is lost with the ticket"]
pub struct Ticket(oneshot::Receiver<Result<SoftTargets, PoolError>>);

impl TeacherPool {
    /// Connects, on `runtime`, and waits for a first teacher. Its identity becomes the pool's, unless `expected` names
    /// one.
    ///
    /// Must not be called from an async task: it blocks.
    ///
    /// # Errors
    /// [`PoolError::NoTeacher`] if no teacher can be used within the configured time; [`PoolError::AllRefused`] as soon
    /// as every endpoint answers and every teacher was refused; [`PoolError::Cancelled`] if `cancel` is cancelled.
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
        let (reference, interface) =
            reference_search::find(&mut directory, &roster, &config, &expected).await?;
        let closed = CancellationToken::new();
        let guard = Arc::new(closed.clone().drop_guard());
        let shared = Arc::new(Shared {
            config,
            expected,
            reference,
            interface,
            queue: BatchQueue::new(Arc::clone(&observer)),
            roster,
            observer,
            instances: Instances::default(),
            closed,
        });
        // The streams to teachers belong to the trace of the run.
        let discovery = discovery::run(directory, Arc::clone(&shared));
        tokio::spawn(traces::carried(discovery));
        watchdog::until_first_teacher(&shared).await?;
        tokio::spawn(watchdog::run(Arc::clone(&shared)));
        tokio::spawn(hedging::run(Arc::clone(&shared)));
        Ok(Self {
            shared,
            _guard: guard,
        })
    }

    /// Returns the identity that all teachers share.
    pub fn identity(&self) -> &TeacherIdentity {
        &self.shared.reference.identity
    }

    /// Returns the names of the teachers' classes, in the order of their logits.
    pub fn class_names(&self) -> &[String] {
        &self.shared.interface.class_names
    }

    /// Returns what the teachers take: a batch of samples of a fixed shape.
    pub fn input(&self) -> &TensorSpec {
        &self.shared.interface.input
    }

    /// Returns how the teachers' images are resized to the size of their input.
    pub fn interpolation(&self) -> Interpolation {
        self.shared.interface.interpolation
    }

    /// Returns the encoding of the teachers' answers.
    pub fn encoding(&self) -> Encoding {
        self.shared.config.encoding
    }

    /// Queues one batch; any free teacher takes it. Never blocks: the caller limits the number of batches in flight.
    pub fn submit(&self, batch: TeacherBatch) -> Ticket {
        Ticket(self.shared.queue.submit(batch))
    }

    /// Returns the number of connected teachers.
    pub fn teachers(&self) -> usize {
        self.shared.roster.connected()
    }
}

impl Ticket {
    /// Waits for the answer. Must not be called from an async task: it blocks.
    ///
    /// # Errors
    /// [`PoolError::TeachersGone`] if no teacher answered for the configured time; [`PoolError::BatchRefused`] if a
    /// teacher refused the batch; [`PoolError::Closed`] if the pool was dropped; [`PoolError::Cancelled`] if `cancel` is
    /// cancelled.
    pub fn wait(self, cancel: &CancellationToken) -> Result<SoftTargets, PoolError> {
        match block_on(cancel.run_until_cancelled(self.0)) {
            Some(Ok(answer)) => answer,
            Some(Err(_)) => Err(PoolError::Closed),
            None => Err(PoolError::Cancelled),
        }
    }
}
