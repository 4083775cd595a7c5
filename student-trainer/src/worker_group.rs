//! The workers that a launcher such as `torchrun` started together with this process.

use std::time::Duration;

use clap::Args;
use common::output::Messages;
use student_trainer::events::{EventSink, RunEvent};
use torch_distributed::{ProcessGroup, Rendezvous, RendezvousError};
use tracing::info;

#[derive(Debug, Args)]
pub struct GroupArguments {
    /// With several workers: seconds that each waits for the others, to start and in each optimizer step. A worker whose
    /// process ends is noticed at once.
    #[arg(long, value_name = "SECONDS", default_value_t = 1800, value_parser = clap::value_parser!(u32).range(1..))]
    worker_timeout: u32,
}

impl GroupArguments {
    /// Waits for the other workers that the environment names; `None` if there are none.
    ///
    /// # Errors
    /// If the environment contradicts itself, or if the others do not come.
    pub fn join(&self) -> Result<Option<ProcessGroup>, RendezvousError> {
        let Some(rendezvous) = Rendezvous::from_environment()? else {
            return Ok(None);
        };
        info!(%rendezvous, "waiting for the other workers");
        let timeout = Duration::from_secs(self.worker_timeout.into());
        ProcessGroup::join(&rendezvous, timeout).map(Some)
    }
}

/// Prints the notices of a worker that only trains: the progress of the run is that of the worker with rank 0.
pub fn notices_of(rank: usize) -> EventSink {
    EventSink::new(move |event| {
        if let RunEvent::Notice { text } = event {
            writeln!(Messages, "worker {rank}: {text}");
        }
    })
}
