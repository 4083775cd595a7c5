//! The trainer, which executes one run per measurement.

use std::path::Path;

use anyhow::{Context, bail};
use proto::runs::v1::{
    RunState, SubmitRunRequest, WatchRunRequest, run_service_client::RunServiceClient,
    watch_run_response::Event,
};
use server::grpc;
use toml::{Table, Value};
use tonic::transport::Channel;

use super::{recipe, task::Task};
use crate::{
    cpu_time::{cpu_seconds, thread_cpu_seconds},
    measurement::Measurement,
    process::{Program, Server},
};

/// tokio's name of the network threads in trainer and teacher.
const NETWORK_THREAD: &str = "tokio-rt-worker";
/// Augmented views of each image in a recording.
const VIEWS: usize = 1;

/// The source of a run's soft targets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SoftTargets {
    /// No soft targets: hard labels.
    None,
    /// A live teacher.
    Live,
    /// A live teacher, and the run records its soft targets.
    Record,
    /// A recording.
    Recorded,
}

/// Training data and its amount.
#[derive(Debug, Clone, Copy)]
pub(super) struct Workload<'a> {
    /// The images and the student's input.
    pub task: Task,
    /// Folder of the images.
    pub data: &'a Path,
    /// Number of training images.
    pub samples: usize,
    /// Measured epochs per run.
    pub epochs: usize,
}

/// The measured epochs of one run.
#[derive(Debug, Clone, Copy)]
pub(super) struct Training {
    /// Includes all threads of the trainer, and of the teacher if there is one.
    pub measurement: Measurement,
    /// Processor time of the network threads among them.
    pub network_seconds: f64,
}

/// A serving trainer.
pub(super) struct Trainer<'a> {
    server: Server,
    client: RunServiceClient<Channel>,
    recording: String,
    data: String,
    workload: Workload<'a>,
}

impl<'a> Trainer<'a> {
    /// Starts a trainer whose runs are below `folder`.
    pub(super) async fn start(folder: &Path, workload: Workload<'a>) -> anyhow::Result<Self> {
        let data = text(workload.data)?;
        let allowed = Value::from(vec![data.clone(), text(folder)?]);
        let program = Program::service("student-trainer")?
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
            recording: text(&folder.join("soft-targets"))?,
            data,
            workload,
        })
    }

    /// Trains the demo's student through its first phase. The measurement covers all epochs except the
    /// first, and includes the teacher's processor time.
    pub(super) async fn train(
        &self,
        soft_targets: SoftTargets,
        teacher: Option<&Server>,
    ) -> anyhow::Result<Training> {
        let request = SubmitRunRequest {
            name: soft_targets.name().to_owned(),
            config_toml: self.config(soft_targets)?.to_string(),
            overrides: self.overrides(soft_targets, teacher),
        };
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
        Training::between(&ends, self.workload.samples as u64)
    }

    /// The run of the demo's student, reduced to its first phase.
    fn config(&self, soft_targets: SoftTargets) -> anyhow::Result<Table> {
        let mut config = recipe::student()?;
        self.workload.task.adapt(&mut config)?;
        let mut phase = recipe::first_phase(&config)?;
        // One additional epoch, which is not measured.
        let epochs = i64::try_from(self.workload.epochs + 1)?;
        phase.insert("epochs".to_owned(), Value::from(epochs));
        if soft_targets == SoftTargets::None {
            let hard_labels = Table::from_iter([("kind".to_owned(), "cross_entropy".into())]);
            phase.insert("loss".to_owned(), Value::Table(hard_labels));
        }
        config.insert("phases".to_owned(), Value::from(vec![phase]));
        Ok(config)
    }

    fn overrides(&self, soft_targets: SoftTargets, teacher: Option<&Server>) -> Vec<String> {
        let quoted = |text: &str| Value::from(text).to_string();
        let mut overrides = vec![
            "export.onnx=false".to_owned(),
            format!("data.path={}", quoted(&self.data)),
            format!("data.train_samples={}", self.workload.samples),
        ];
        if let Some(teacher) = teacher {
            overrides.push(format!("teacher.endpoints=[{}]", quoted(&teacher.grpc())));
        }
        if let SoftTargets::Record | SoftTargets::Recorded = soft_targets {
            overrides.push(format!("soft_targets.mode={}", soft_targets.name()));
            overrides.push(format!("soft_targets.views={VIEWS}"));
            overrides.push(format!("soft_targets.folder={}", quoted(&self.recording)));
        }
        overrides
    }
}

impl SoftTargets {
    fn name(self) -> &'static str {
        match self {
            Self::None => "supervised",
            Self::Live => "live",
            Self::Record => "record",
            Self::Recorded => "recorded",
        }
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
fn text(path: &Path) -> anyhow::Result<String> {
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
