//! What the pool's tasks share.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use crate::{
    config::PoolConfig, expected::ExpectedTeacher, instances::Instances, observer::PoolObserver,
    queue::BatchQueue, reference::Reference, roster::Roster,
};

/// What the pool's tasks share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub config: PoolConfig,
    pub expected: ExpectedTeacher,
    pub reference: Reference,
    pub queue: BatchQueue,
    pub roster: Roster,
    pub observer: Arc<dyn PoolObserver>,
    pub instances: Instances,
    /// Cancelled when the pool is dropped.
    pub closed: CancellationToken,
}
