//! Compares the service with ONNX Runtime itself and with a bare gRPC server, alternately.

use std::path::Path;

use anyhow::{Context, Result, bail};
use common::{atomic_file, output::Messages};
use tempfile::TempDir;

use super::{
    footprint::{self, Footprint},
    load::{self, Load, Measured, Window},
    report::{Comparison, Figures},
    round::{MANY, Round},
    target::{Endpoint, Target},
};
use crate::{
    network::Network,
    parts::BatchSpeed,
    process::{Program, Server},
};

const MODEL: &str = "model";
/// Seed of the call times of an open loop.
pub(super) const SEED: u64 = 1;

/// The settings of all measurements.
#[derive(Debug, Clone, Copy)]
pub(super) struct Setting {
    pub connections: usize,
    pub turns: usize,
    pub window: Window,
    pub service_core: usize,
    pub load_core: usize,
}

/// Measures each of `networks`, and the footprint of the service.
///
/// # Errors
/// If a program cannot be started, or a call fails.
pub(super) async fn measure(setting: &Setting, networks: &[Network]) -> Result<Figures> {
    let folder = TempDir::new().context("cannot create a folder")?;
    let mut comparisons = Vec::new();
    let mut footprint = None;
    for network in networks {
        let store = folder.path().join(network.name());
        let onnx = store.join(MODEL).join("1/model.onnx");
        let program = Program::part("store")?
            .args(["--network", network.name(), "--model", MODEL, "--output"])
            .arg(&store);
        program.run().await?;
        comparisons.push(setting.compare(*network, &store, &onnx).await?);
        footprint = Some(setting.footprint(&store).await?);
    }
    Ok(Figures::new(comparisons, footprint))
}

impl Setting {
    /// Measures `load` on `target` once per turn.
    pub(super) async fn repeat(&self, target: &Target, load: Load) -> Result<Vec<Measured>> {
        let mut turns = Vec::new();
        for _ in 0..self.turns {
            turns.push(self.once(target, load).await?);
        }
        Ok(turns)
    }

    async fn once(&self, target: &Target, load: Load) -> Result<Measured> {
        load::measure(target, load, self.window, Some(self.load_core)).await
    }

    async fn compare(&self, network: Network, store: &Path, onnx: &Path) -> Result<Comparison> {
        let service = self.serve(store).await?;
        let endpoint = Endpoint::local(service.grpc());
        let target = Target::of_model(endpoint, MODEL, self.connections).await?;
        let target = target.of_process(Some(service.pid()));
        let (echo_target, _echo) = self.echo(&target).await?;

        let mut rounds = Vec::new();
        for number in 1..=self.turns {
            writeln!(
                Messages,
                "{}: turn {number} of {}",
                network.name(),
                self.turns
            );
            let sweep = self.session(onnx, "1,2,4,8,16,32,64").await?;
            let best = Round::fastest(&sweep).batch.to_string();
            let first_runs = Program::part("first-runs")?.arg("--onnx").arg(onnx);
            let first_run_ratio = first_runs.on_core(self.service_core).figures().await?;
            let closed = |callers| Load::Closed { callers };
            let denominators = async || -> Result<(BatchSpeed, Measured)> {
                let one_sample = self.session(onnx, "1").await?[0];
                Ok((one_sample, self.once(&echo_target, closed(1)).await?))
            };
            let echo_many_before = self.once(&echo_target, closed(MANY)).await?;
            let best_before = self.session(onnx, &best).await?[0];
            let many_callers = self.once(&target, closed(MANY)).await?;
            let best_after = self.session(onnx, &best).await?[0];
            let echo_many_after = self.once(&echo_target, closed(MANY)).await?;
            let (one_sample_before, echo_before) = denominators().await?;
            let one_caller = self.once(&target, closed(1)).await?;
            let (one_sample_after, echo_after) = denominators().await?;
            rounds.push(Round {
                sweep,
                first_run_ratio,
                best: [best_before, best_after],
                one_sample: [one_sample_before, one_sample_after],
                echo: [echo_before, echo_after],
                echo_many: [echo_many_before, echo_many_after],
                one_caller,
                eight_callers: self.once(&target, closed(8)).await?,
                many_callers,
            });
        }
        let mut throughputs: Vec<_> = rounds
            .iter()
            .map(|round| round.many_callers.throughput)
            .collect();
        throughputs.sort_by(f64::total_cmp);
        let rate = throughputs[throughputs.len() / 2] / 2.0;
        let mut half_load = Vec::new();
        for number in 1..=self.turns {
            writeln!(
                Messages,
                "{}: open loop at {rate:.0} calls/s, turn {number} of {}",
                network.name(),
                self.turns
            );
            let seed = SEED + number as u64;
            half_load.push(self.once(&target, Load::Open { rate, seed }).await?);
        }
        Ok(Comparison::new(network.name(), &rounds, rate, &half_load))
    }

    /// Starts a bare gRPC server on the service's core. It answers every call with `target`'s answer, and
    /// stops when the returned [`Server`] is dropped.
    pub(super) async fn echo(&self, target: &Target) -> Result<(Target, Server)> {
        let folder = TempDir::new().context("cannot create a folder")?;
        let answer = folder.path().join("answer");
        atomic_file::write(&answer, target.answer()).context("cannot write a file")?;
        let program = Program::part("inference-echo")?
            .arg("--answer")
            .arg(&answer);
        // The server has read the file when it serves.
        let server = program.on_core(self.service_core).serve().await?;
        Ok((target.at(server.grpc(), server.pid()), server))
    }

    /// Measures ONNX Runtime in process, on the service's core, for each of `batch_sizes`.
    async fn session(&self, onnx: &Path, batch_sizes: &str) -> Result<Vec<BatchSpeed>> {
        let program = Program::part("session")?
            .arg("--onnx")
            .arg(onnx)
            .args(["--batch-sizes", batch_sizes]);
        let speeds: Vec<_> = program.on_core(self.service_core).figures().await?;
        if speeds.is_empty() {
            bail!("no batch sizes were measured");
        }
        Ok(speeds)
    }

    /// Starts the service with one session of one thread, on the service's core.
    async fn serve(&self, store: &Path) -> Result<Server> {
        let mut program = Program::service("inference-service")?
            .args(["serve", "--store"])
            .arg(store)
            .args(["--set", "runtime.instances=1"])
            .args(["--set", "runtime.threads=1"]);
        for port in ["grpc", "admin", "http", "metrics"] {
            program = program.args(["--set", &format!("{port}.listen=127.0.0.1:0")]);
        }
        program.on_core(self.service_core).serve().await
    }

    async fn footprint(&self, store: &Path) -> Result<Footprint> {
        let mut ready_ms = Vec::new();
        for _ in 1..self.turns {
            let server = self.serve(store).await?;
            ready_ms.push(server.ready_after.as_secs_f64() * 1e3);
        }
        let server = self.serve(store).await?;
        ready_ms.push(server.ready_after.as_secs_f64() * 1e3);
        let endpoint = Endpoint::local(server.grpc());
        let target = Target::of_model(endpoint, MODEL, self.connections).await?;
        self.once(&target, Load::Closed { callers: MANY }).await?;
        footprint::of(server.pid(), ready_ms).await
    }
}
