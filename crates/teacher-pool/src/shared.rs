//! What the pool's tasks share.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use crate::{
    candidate::Interface, config::PoolConfig, expected::ExpectedTeacher, instances::Instances,
    observer::PoolObserver, queue::BatchQueue, reference::Reference, roster::Roster,
};

/// What the pool's tasks share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub config: PoolConfig,
    pub expected: ExpectedTeacher,
    pub reference: Reference,
    /// What all teachers take and answer.
    pub interface: Interface,
    pub queue: BatchQueue,
    pub roster: Roster,
    pub observer: Arc<dyn PoolObserver>,
    pub instances: Instances,
    /// Cancelled when the pool is dropped.
    pub closed: CancellationToken,
}
