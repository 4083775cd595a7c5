//! Processes of `student-trainer run` that train one network together.

use std::{
    fs, io,
    net::TcpListener,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::loopback::received_bytes;
use crate::{
    cpu_time::cpu_seconds,
    process::{Program, Running},
};

const POLL: Duration = Duration::from_millis(10);
/// Attempts to find a port that no other program takes meanwhile.
const PORTS: usize = 5;
/// What the worker with rank 0 reports if another program has the port.
const PORT_IS_TAKEN: &str = "EADDRINUSE";

/// Workers on this machine, which start and end together.
pub(super) struct WorkerGroup<'a> {
    pub count: usize,
    /// File of the configuration.
    pub config: &'a Path,
    /// Settings that take precedence, `KEY=VALUE`.
    pub overrides: &'a [String],
    /// Folder of the run, which does not exist yet.
    pub output: PathBuf,
}

/// The epochs of a run, except the first.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Epochs {
    pub count: usize,
    /// Wall-clock time.
    pub seconds: f64,
    /// Processor time of all workers.
    pub cpu_seconds: f64,
    /// Bytes that crossed the loopback interface, also of other programs.
    pub loopback_bytes: u64,
}

/// The state at the end of an epoch.
#[derive(Debug, Clone, Copy)]
struct EpochEnd {
    /// Wall-clock time of this epoch.
    seconds: f64,
    /// Processor time of all workers since they started.
    cpu_seconds: f64,
    /// Bytes on the loopback interface since it started.
    loopback_bytes: u64,
}

impl WorkerGroup<'_> {
    /// Trains to the end.
    ///
    /// # Errors
    /// If a worker cannot be started, or fails.
    pub(super) async fn train(&self) -> Result<Epochs> {
        let mut attempts = 1;
        loop {
            match self.train_at(free_port()?).await {
                // The workers have met nowhere, so the run has not begun.
                Err(error) if attempts < PORTS && lost_its_port(&error) => attempts += 1,
                ended => return ended,
            }
        }
    }

    /// Trains with workers that meet at `port`.
    async fn train_at(&self, port: u16) -> Result<Epochs> {
        let start = |rank| self.program(rank, port)?.start();
        let workers = (0..self.count).map(start).collect::<Result<Vec<_>>>();
        let mut workers: Vec<Running> = workers?;
        let mut cpu = vec![0.0; self.count];
        let mut ends: Vec<EpochEnd> = Vec::new();
        loop {
            // Before the last look at what they wrote.
            let mut running = false;
            for worker in &mut workers {
                running |= worker.is_running()?;
            }
            for (cpu, worker) in cpu.iter_mut().zip(&workers) {
                // A worker that has ended meanwhile keeps its last value.
                if let Ok(seconds) = cpu_seconds(worker.pid()) {
                    *cpu = seconds;
                }
            }
            for seconds in self.epochs()?.into_iter().skip(ends.len()) {
                ends.push(EpochEnd {
                    seconds,
                    cpu_seconds: cpu.iter().sum(),
                    loopback_bytes: received_bytes()?,
                });
            }
            if !running {
                return Epochs::between(&ends);
            }
            tokio::time::sleep(POLL).await;
        }
    }

    fn program(&self, rank: usize, port: u16) -> Result<Program> {
        let program = Program::service("student-trainer")?
            .arg("run")
            .arg(self.config)
            .arg("--output")
            .arg(&self.output);
        let overrides = self.overrides.iter();
        let program = overrides.fold(program, |program, setting| program.args(["--set", setting]));
        if self.count == 1 {
            return Ok(program);
        }
        // As `torchrun` sets them.
        Ok(program
            .env("WORLD_SIZE", &self.count.to_string())
            .env("RANK", &rank.to_string())
            .env("LOCAL_RANK", &rank.to_string())
            .env("MASTER_ADDR", "127.0.0.1")
            .env("MASTER_PORT", &port.to_string()))
    }

    /// The wall-clock times of the epochs that the worker with rank 0 has finished, seconds.
    fn epochs(&self) -> Result<Vec<f64>> {
        let file = self.output.join("metrics.jsonl");
        match fs::read_to_string(&file) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            text => {
                let text = text.with_context(|| file.display().to_string())?;
                Ok(epoch_seconds(&text))
            }
        }
    }
}

/// Whether a group ended because another program took its port before rank 0 did.
fn lost_its_port(error: &anyhow::Error) -> bool {
    format!("{error:#}").contains(PORT_IS_TAKEN)
}

/// A port of this machine that is free now.
fn free_port() -> Result<u16> {
    let listener = TcpListener::bind(("0.0.0.0", 0)).context("cannot find a free port")?;
    Ok(listener.local_addr()?.port())
}

/// The wall-clock times of finished epochs in the text of a `metrics.jsonl`, whose last line may be incomplete.
fn epoch_seconds(text: &str) -> Vec<f64> {
    let events = text
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let finished = events.filter(|event| event["event"] == "epoch_finished");
    finished
        .filter_map(|event| event["seconds"].as_f64())
        .collect()
}

impl Epochs {
    /// The time from the first of `ends` to the last.
    fn between(ends: &[EpochEnd]) -> Result<Self> {
        let [first, measured @ .., last] = ends else {
            bail!("the run has only {} epochs", ends.len());
        };
        let seconds = measured.iter().map(|end| end.seconds).sum::<f64>();
        Ok(Self {
            count: measured.len() + 1,
            seconds: seconds + last.seconds,
            cpu_seconds: last.cpu_seconds - first.cpu_seconds,
            loopback_bytes: last.loopback_bytes.saturating_sub(first.loopback_bytes),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_epoch_is_not_measured() {
        let ends = [1.0, 2.0, 4.0].map(|seconds| EpochEnd {
            seconds,
            cpu_seconds: 10.0 * seconds,
            loopback_bytes: 100 * seconds as u64,
        });
        let expected = Epochs {
            count: 2,
            seconds: 6.0,
            cpu_seconds: 30.0,
            loopback_bytes: 300,
        };
        assert_eq!(Epochs::between(&ends).unwrap(), expected);
        assert!(Epochs::between(&ends[..1]).is_err());
    }

    #[test]
    fn only_finished_epochs_count() {
        let text = "{\"event\":\"phase_started\",\"epochs\":2}\n\
                    {\"event\":\"epoch_finished\",\"epoch\":1,\"seconds\":1.5}\n\
                    {\"event\":\"step_progress\",\"step\":4}\n\
                    {\"event\":\"epoch_finished\",\"epoch\":2,\"seconds\":0.5}\n\
                    {\"event\":\"epoch_finished\",\"epoch\":3,\"sec";
        assert_eq!(epoch_seconds(text), [1.5, 0.5]);
        assert!(epoch_seconds("").is_empty());
    }
}
