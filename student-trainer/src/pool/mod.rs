//! The teachers that a run is connected to.
//!
//! Every batch goes into one queue, from which the teachers pull: a faster teacher simply takes
//! more. What a lost teacher had not answered goes back to the head of the queue, and each ticket
//! gets exactly one answer, so which teacher answered, and how often one was lost, leaves no trace
//! in the result.
//!
//! - [`election`] picks the teacher whose identity all others must share.
//! - [`discovery`] looks the endpoints up again and again and starts a [`member`] for each address.
//! - A member connects, checks who is there ([`candidate`]), and keeps a [`stream`] to it.
//! - [`roster`] knows who is connected and tells people about it; [`watchdog`] gives up when nobody is.

mod back_off;
mod candidate;
mod discovery;
mod election;
mod error;
mod member;
mod queue;
mod roster;
mod stream;
mod watchdog;

use std::sync::Arc;

use bytes::Bytes;
use common::{manifest::TeacherIdentity, soft_targets::SoftTargets};
use futures::executor::block_on;
use tokio::sync::oneshot;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::{config::PoolConfig, events::NoticeSender};

use candidate::Reference;
use discovery::Directory;
use queue::BatchQueue;
use roster::Roster;

pub use error::PoolError;

/// A cheap handle to the teachers of a run. They are let go when the last handle is dropped.
#[derive(Debug, Clone)]
pub struct TeacherPool {
    shared: Arc<Shared>,
    _guard: Arc<DropGuard>,
}

/// What a run's data ask of a teacher.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExpectedTeacher {
    /// Shape of one image: [channels, height, width].
    pub input_shape: [usize; 3],
    /// Number of classes.
    pub classes: usize,
}

/// A batch on its way; exactly one answer comes.
#[derive(Debug)]
#[must_use = "the answer is lost with the ticket"]
pub struct Ticket(oneshot::Receiver<Result<SoftTargets, PoolError>>);

/// What the pool's tasks share.
#[derive(Debug)]
struct Shared {
    config: PoolConfig,
    expected: ExpectedTeacher,
    reference: Reference,
    queue: BatchQueue,
    roster: Roster,
    /// Cancelled when the pool is dropped.
    closed: CancellationToken,
}

impl TeacherPool {
    /// Connects, on `runtime`, and waits for a first teacher: its identity becomes the pool's.
    ///
    /// Must not be called from an async task: it blocks.
    ///
    /// # Errors
    /// When no teacher can be used within the configured time, or at once when every teacher that
    /// there is was refused; each endpoint is named with its reason. When `cancel` is cancelled.
    pub fn connect(
        config: PoolConfig,
        expected: ExpectedTeacher,
        notices: NoticeSender,
        cancel: &CancellationToken,
        runtime: &tokio::runtime::Handle,
    ) -> Result<Self, PoolError> {
        let connect = cancel.run_until_cancelled(Self::connect_async(config, expected, notices));
        runtime
            .block_on(connect)
            .unwrap_or(Err(PoolError::Cancelled))
    }

    async fn connect_async(
        config: PoolConfig,
        expected: ExpectedTeacher,
        notices: NoticeSender,
    ) -> Result<Self, PoolError> {
        let mut directory = Directory::new(&config.endpoints)?;
        let roster = Roster::new(notices);
        let reference = election::elect(&mut directory, &roster, &config, expected).await?;
        let closed = CancellationToken::new();
        let guard = Arc::new(closed.clone().drop_guard());
        let shared = Arc::new(Shared {
            config,
            expected,
            reference,
            queue: BatchQueue::default(),
            roster,
            closed,
        });
        tokio::spawn(discovery::run(directory, Arc::clone(&shared)));
        watchdog::first_teacher(&shared).await?;
        tokio::spawn(watchdog::run(Arc::clone(&shared)));
        Ok(Self {
            shared,
            _guard: guard,
        })
    }

    /// Who the teachers are.
    pub fn identity(&self) -> &TeacherIdentity {
        &self.shared.reference.identity
    }

    /// Queues one batch of u8 pixels, [batch, channels, height, width] row-major; any free teacher
    /// takes it. Never blocks: the caller bounds what is in flight.
    pub fn submit(&self, pixels: Bytes, shape: [usize; 4]) -> Ticket {
        let (reply, answer) = oneshot::channel();
        self.shared.queue.submit(pixels, shape, reply);
        Ticket(answer)
    }

    /// Teachers connected now.
    pub fn teachers(&self) -> usize {
        self.shared.roster.connected()
    }

    /// Batches that went back to the queue because their teacher was lost.
    pub fn requeued(&self) -> u64 {
        self.shared.queue.requeued()
    }
}

impl Ticket {
    /// Waits for the answer. Must not be called from an async task: it blocks.
    ///
    /// # Errors
    /// When a teacher refused the batch, when no teacher was there for the configured time, when
    /// the pool was dropped, or when `cancel` is cancelled.
    pub fn wait(self, cancel: &CancellationToken) -> Result<SoftTargets, PoolError> {
        match block_on(cancel.run_until_cancelled(self.0)) {
            Some(Ok(answer)) => answer,
            Some(Err(_)) => Err(PoolError::Closed),
            None => Err(PoolError::Cancelled),
        }
    }
}
