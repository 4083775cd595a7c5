//! The trainer, which executes one run per turn.

use std::path::Path;

use common::turn::Turn;
use proto::runs::v1::watch_run_response::Event;
use toml::{Table, Value};

use super::DistillArguments;
use crate::{
    CliError,
    bench::{
        BenchError,
        cpu_time::{cpu_seconds, thread_cpu_seconds},
        process::{Program, Server},
    },
    client::Remote,
    demo::STUDENT_RECIPE,
    run_config::RunConfigText,
    runs::{Observer, RunClient, succeeded, watch},
    text_path::text_path,
};

const PROGRAM: &str = "student-trainer";
/// tokio's name of the network threads in trainer and teacher.
const NETWORK_THREAD: &str = "tokio-rt-worker";
/// Augmented views of each image in a recording.
const VIEWS: i64 = 1;

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

/// The measured epochs of one run.
#[derive(Debug, Clone, Copy)]
pub(super) struct TrainingTurn {
    /// All threads of the trainer, and of the teacher if there is one.
    pub(super) turn: Turn,
    /// Processor time of the network threads among them.
    pub(super) network_seconds: f64,
}

/// A serving trainer.
pub(super) struct Trainer {
    server: Server,
    client: RunClient,
    recording: String,
    data: String,
    samples: usize,
    epochs: usize,
}

impl Trainer {
    /// Starts a trainer whose runs are below `folder`.
    pub(super) async fn start(
        folder: &Path,
        arguments: &DistillArguments,
    ) -> Result<Self, CliError> {
        let runs = folder.join("runs");
        let allowed = vec![text_path(&arguments.data)?, text_path(folder)?];
        let allowed_folders = format!("allowed_folders={}", toml::Value::from(allowed));
        let settings = [
            "serve",
            "--runs-folder",
            text_path(&runs)?,
            "--set",
            &allowed_folders,
            "--set",
            "grpc.listen=127.0.0.1:0",
            "--set",
            "metrics.listen=127.0.0.1:0",
        ];
        let server = Program::new(PROGRAM, &settings).serve().await?;
        Ok(Self {
            client: RunClient::connect(Remote::trainer(server.grpc())).await?,
            server,
            recording: text_path(&folder.join("soft-targets"))?.to_owned(),
            data: text_path(&arguments.data)?.to_owned(),
            samples: arguments.samples,
            epochs: arguments.epochs,
        })
    }

    /// Trains the demo's student through its first phase. The turn consists of all epochs except the
    /// first, and includes the teacher's processor time.
    pub(super) async fn turn(
        &self,
        soft_targets: SoftTargets,
        teacher: Option<&Server>,
    ) -> Result<TrainingTurn, CliError> {
        let config = self.config(soft_targets, teacher).map_err(|problem| {
            // An error here is a bug in the shipped recipe.
            BenchError::Output {
                program: "the demo's recipe".to_owned(),
                problem,
            }
        })?;
        let run = self.client.submit(soft_targets.name(), &config).await?;
        let pids = [Some(self.server.pid()), teacher.map(Server::pid)];
        let mut epochs = Epochs {
            pids: pids.into_iter().flatten().collect(),
            ends: Vec::new(),
        };
        succeeded(&watch(&self.client, &run.run_id, &mut [&mut epochs]).await?)?;
        epochs.turn(self.samples as u64)
    }

    fn config(
        &self,
        soft_targets: SoftTargets,
        teacher: Option<&Server>,
    ) -> Result<RunConfigText, String> {
        let mut config = RunConfigText::parse(STUDENT_RECIPE)?;
        let recipe: Table = STUDENT_RECIPE.parse().map_err(|error| format!("{error}"))?;
        let phase = recipe.get("phases").and_then(|phases| phases.get(0));
        let mut phase = phase.and_then(Value::as_table).ok_or("no phase")?.clone();
        // One additional epoch, which is not measured.
        phase.insert("epochs".to_owned(), Value::from(self.epochs as i64 + 1));
        if soft_targets == SoftTargets::None {
            let hard_labels = Table::from_iter([("kind".to_owned(), "cross_entropy".into())]);
            phase.insert("loss".to_owned(), Value::Table(hard_labels));
        }
        config.set("phases", vec![phase])?;
        config.set("export.onnx", false)?;
        config.set("data.path", self.data.as_str())?;
        config.set("data.train_samples", self.samples as i64)?;
        if let Some(teacher) = teacher {
            config.set("teacher.endpoints", vec![teacher.grpc()])?;
        }
        if let SoftTargets::Record | SoftTargets::Recorded = soft_targets {
            config.set("soft_targets.mode", soft_targets.name())?;
            config.set("soft_targets.views", VIEWS)?;
            config.set("soft_targets.folder", self.recording.as_str())?;
        }
        Ok(config)
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

/// Records the time at the end of each epoch.
struct Epochs {
    /// The processes whose processor time is measured.
    pids: Vec<u32>,
    ends: Vec<EpochEnd>,
}

struct EpochEnd {
    /// Wall-clock time of this epoch.
    seconds: f64,
    /// Processor time so far.
    cpu_seconds: Result<f64, CliError>,
    /// The part of that in the network threads.
    network_seconds: Result<f64, CliError>,
}

impl Observer for Epochs {
    fn observe(&mut self, event: &Event) {
        if let Event::EpochFinished(finished) = event {
            let pids = self.pids.iter();
            let network_times = pids.map(|pid| thread_cpu_seconds(*pid, NETWORK_THREAD));
            self.ends.push(EpochEnd {
                seconds: finished.seconds,
                cpu_seconds: self.pids.iter().map(|pid| cpu_seconds(*pid)).sum(),
                network_seconds: network_times.sum(),
            });
        }
    }
}

impl Epochs {
    /// The turn of all epochs except the first, with `samples` each.
    fn turn(self, samples: u64) -> Result<TrainingTurn, CliError> {
        let mut ends = self.ends.into_iter();
        let missing = || BenchError::Output {
            program: PROGRAM.to_owned(),
            problem: "a run without epochs".to_owned(),
        };
        let first = ends.next().ok_or_else(missing)?;
        let (began, network_began) = (first.cpu_seconds?, first.network_seconds?);
        let mut network_seconds = 0.0;
        let mut turn = Turn {
            samples: 0,
            seconds: 0.0,
            cpu_seconds: 0.0,
        };
        for end in ends {
            turn.samples += samples;
            turn.seconds += end.seconds;
            turn.cpu_seconds = end.cpu_seconds? - began;
            network_seconds = end.network_seconds? - network_began;
        }
        Ok(TrainingTurn {
            turn,
            network_seconds,
        })
    }
}
