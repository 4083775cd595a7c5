//! The workers that a launcher such as `torchrun` started together with this process.

use std::{thread, time::Duration};

use clap::Args;
use common::output::Messages;
use student_trainer::events::{EventSink, RunEvent};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;
use torch_distributed::{ProcessGroup, Rendezvous};
use tracing::info;

#[derive(Debug, Args)]
pub struct GroupArguments {
    /// With several workers: seconds that each waits for the others, to start and in each optimizer step. A worker whose
    /// process ends is noticed at once.
    #[arg(long, value_name = "SECONDS", default_value_t = 1800, value_parser = clap::value_parser!(u32).range(1..))]
    worker_timeout: u32,
}

/// How the wait for the other workers ended.
#[derive(Debug)]
pub enum Joined {
    /// There are no others.
    Alone,
    /// All are there.
    Group(ProcessGroup),
    /// This process was asked to stop.
    Stopped(Rendezvous),
}

impl GroupArguments {
    /// Waits for the other workers that the environment names. Cancelling `stop` ends the wait.
    ///
    /// # Errors
    /// If the environment contradicts itself, or if the others do not come.
    pub async fn join(&self, stop: &CancellationToken) -> anyhow::Result<Joined> {
        let Some(rendezvous) = Rendezvous::from_environment()? else {
            return Ok(Joined::Alone);
        };
        info!(%rendezvous, "waiting for the other workers");
        let timeout = Duration::from_secs(self.worker_timeout.into());
        let (joined, is_joined) = oneshot::channel();
        let others = rendezvous.clone();
        let join = move || {
            // Not received if this process was asked to stop.
            let _ = joined.send(ProcessGroup::join(&others, timeout));
        };
        // c10d's wait cannot be cancelled, so it has a thread of its own, which ends with the process. The default action of a
        // signal is not enough: for process 1 of a container, the kernel omits it.
        thread::Builder::new().name("join".to_owned()).spawn(join)?;
        match stop.run_until_cancelled(is_joined).await {
            Some(joined) => Ok(Joined::Group(joined??)),
            None => Ok(Joined::Stopped(rendezvous)),
        }
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
