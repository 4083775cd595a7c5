//! A trainer, which executes one run per measurement.

use std::path::Path;

use anyhow::{Context, bail};
use proto::runs::v1::{
    RunState, SubmitRunRequest, WatchRunRequest, run_service_client::RunServiceClient,
    watch_run_response::Event,
};
use server::grpc;
use toml::Value;
use tonic::transport::Channel;

use crate::{
    cpu_time::{cpu_seconds, thread_cpu_seconds},
    measurement::Measurement,
    process::{Program, Server},
};

/// tokio's name of the network threads in trainer and teacher.
const NETWORK_THREAD: &str = "tokio-rt-worker";

/// A serving trainer.
pub(crate) struct Trainer {
    server: Server,
    client: RunServiceClient<Channel>,
}

/// The measured epochs of one run.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Training {
    /// Includes all threads of the trainer, and of the teacher if there is one.
    pub measurement: Measurement,
    /// Processor time of the network threads among them.
    pub network_seconds: f64,
}

impl Trainer {
    /// The program that [`start`](Self::start) starts.
    pub(crate) fn program() -> anyhow::Result<Program> {
        Program::service("student-trainer")
    }

    /// Starts `program`, whose runs are in `folder`. They may read the files below `folder` and `data`.
    pub(crate) async fn start(
        program: Program,
        folder: &Path,
        data: &Path,
    ) -> anyhow::Result<Self> {
        let allowed = Value::from(vec![text(data)?, text(folder)?]);
        let program = program
            .args(["serve", "--runs-folder"])
            .arg(folder.join("runs"))
            .args(["--set", &format!("allowed_folders={allowed}")])
            .args(["--set", "grpc.listen=127.0.0.1:0"])
            .args(["--set", "metrics.listen=127.0.0.1:0"]);
        let server = program.serve().await?;
        let channel = grpc::endpoint(&server.grpc())?.connect().await?;
        Ok(Self {
            client: RunServiceClient::new(channel),
            server,
        })
    }

    /// Executes a run with `samples` training samples. The measurement covers all epochs except the first, and
    /// includes the processor time of the run's teacher.
    pub(crate) async fn train(
        &self,
        request: SubmitRunRequest,
        samples: u64,
        teacher: Option<&Server>,
    ) -> anyhow::Result<Training> {
        let mut client = self.client.clone();
        let submitted = client.submit_run(request).await?.into_inner().run;
        let run_id = submitted.context("the trainer returned no run")?.run_id;
        let mut events = client
            .watch_run(WatchRunRequest { run_id })
            .await?
            .into_inner();
        let pids = [Some(self.server.pid()), teacher.map(Server::pid)];
        let pids: Vec<u32> = pids.into_iter().flatten().collect();
        let mut ends = Vec::new();
        loop {
            let event = events.message().await?;
            match event
                .context("the trainer ended the stream of events")?
                .event
            {
                Some(Event::EpochFinished(finished)) => {
                    ends.push(EpochEnd::now(&pids, finished.seconds)?);
                }
                Some(Event::StateChanged(run)) => match run.state() {
                    RunState::Succeeded => break,
                    RunState::Failed | RunState::Cancelled => {
                        bail!("the run `{}` failed: {}", run.run_id, run.reason);
                    }
                    RunState::Queued | RunState::Running | RunState::Unspecified => {}
                },
                _ => {}
            }
        }
        Training::between(&ends, samples)
    }
}

/// The times at the end of an epoch.
struct EpochEnd {
    /// Wall-clock time of this epoch.
    seconds: f64,
    /// Processor time since the processes started.
    cpu_seconds: f64,
    /// The part of that in the network threads.
    network_seconds: f64,
}

impl EpochEnd {
    fn now(pids: &[u32], seconds: f64) -> anyhow::Result<Self> {
        let network_seconds = |pid: &u32| thread_cpu_seconds(*pid, NETWORK_THREAD);
        Ok(Self {
            seconds,
            cpu_seconds: pids
                .iter()
                .map(|pid| cpu_seconds(*pid))
                .sum::<Result<_, _>>()?,
            network_seconds: pids.iter().map(network_seconds).sum::<Result<_, _>>()?,
        })
    }
}

impl Training {
    /// The time from the first of `ends` to the last, with `samples` per epoch.
    fn between(ends: &[EpochEnd], samples: u64) -> anyhow::Result<Self> {
        let [first, measured @ ..] = ends else {
            bail!("the run has no epochs");
        };
        let last = measured.last().unwrap_or(first);
        Ok(Self {
            measurement: Measurement {
                samples: samples * measured.len() as u64,
                seconds: measured.iter().map(|end| end.seconds).sum(),
                cpu_seconds: last.cpu_seconds - first.cpu_seconds,
            },
            network_seconds: last.network_seconds - first.network_seconds,
        })
    }
}

/// A path as text, for a configuration.
pub(crate) fn text(path: &Path) -> anyhow::Result<String> {
    let text = path.to_str();
    let text = text.with_context(|| format!("the path {path:?} is not UTF-8"))?;
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_epoch_is_not_measured() {
        let ends = [1.0, 2.0, 4.0].map(|seconds| EpochEnd {
            seconds,
            cpu_seconds: 10.0 * seconds,
            network_seconds: seconds / 2.0,
        });
        let training = Training::between(&ends, 100).unwrap();
        let expected = Measurement {
            samples: 200,
            seconds: 6.0,
            cpu_seconds: 30.0,
        };
        assert_eq!(training.measurement, expected);
        assert_eq!(training.network_seconds, 1.5);
        assert!(Training::between(&[], 100).is_err());
    }
}
