//! Compares the service with ONNX Runtime itself and with a bare gRPC server, alternately.

use common::atomic_file;
use common::output::Messages;
use serde::Deserialize;
use tempfile::TempDir;

use super::{
    Network, SEED,
    footprint::{self, Footprint},
    load::{self, Load, Measured, Window},
    report::{Comparison, Figures, Turn},
    target::Target,
};
use crate::{
    CliError,
    bench::{
        BenchError,
        process::{Program, Server},
    },
    client::Remote,
    text_path::text_path,
};

const PROGRAM: &str = "inference-service";
const MODEL: &str = "model";
/// Number of callers for the cost of a call.
pub(super) const MANY: usize = 64;

/// The settings of all measurements.
#[derive(Debug, Clone, Copy)]
pub(super) struct Setting {
    pub connections: usize,
    pub turns: usize,
    pub window: Window,
    pub service_core: usize,
    pub load_core: usize,
}

/// The output of `inference-service bench session` for a batch size.
#[derive(Debug, Clone, Copy, Deserialize)]
pub(super) struct BatchSpeed {
    pub batch: usize,
    pub samples_per_second: f64,
    pub p50_us: f64,
}

/// Measures each of `networks`, and the footprint of the service.
///
/// # Errors
/// If a program cannot be started, or a call fails.
pub(super) async fn measure(setting: &Setting, networks: &[Network]) -> Result<Figures, CliError> {
    let folder = TempDir::new().map_err(BenchError::system("cannot make a folder"))?;
    let mut comparisons = Vec::new();
    let mut footprint = None;
    for network in networks {
        let store = folder.path().join(network.name());
        let store = text_path(&store)?;
        let model = format!("{store}/{MODEL}/1/model.onnx");
        Program::new(
            PROGRAM,
            &[
                "bench",
                "store",
                "--network",
                network.name(),
                "--model",
                MODEL,
                "--output",
                store,
            ],
        )
        .run()
        .await?;
        comparisons.push(setting.compare(*network, store, &model).await?);
        footprint = Some(setting.footprint(store).await?);
    }
    Ok(Figures::new(comparisons, footprint))
}

impl Setting {
    /// Measures `load` on `target` once per turn.
    pub(super) async fn repeat(
        &self,
        target: &Target,
        load: Load,
    ) -> Result<Vec<Measured>, CliError> {
        let mut turns = Vec::new();
        for _ in 0..self.turns {
            turns.push(self.once(target, load).await?);
        }
        Ok(turns)
    }

    async fn once(&self, target: &Target, load: Load) -> Result<Measured, CliError> {
        load::measure(target, load, self.window, Some(self.load_core)).await
    }

    async fn compare(
        &self,
        network: Network,
        store: &str,
        onnx: &str,
    ) -> Result<Comparison, CliError> {
        let service = self.serve(store).await?;
        let target = Target::of_model(Remote::inference(service.grpc()), MODEL, self.connections);
        let target = target.await?.of_process(Some(service.pid()));
        let (echo_target, _echo) = self.echo(&target).await?;

        let mut turns = Vec::new();
        for number in 1..=self.turns {
            writeln!(
                Messages,
                "{}: turn {number} of {}",
                network.name(),
                self.turns
            );
            let sweep = self.session(onnx, "1,2,4,8,16,32,64").await?;
            let best = Turn::fastest(&sweep).batch.to_string();
            let first_runs = Program::new(PROGRAM, &["bench", "first-runs", "--onnx", onnx]);
            let first_run_ratio = first_runs.on_core(self.service_core).figures().await?;
            let closed = |callers| Load::Closed { callers };
            let denominators = async || -> Result<(BatchSpeed, Measured), CliError> {
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
            turns.push(Turn {
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
        let mut throughputs: Vec<_> = turns
            .iter()
            .map(|turn| turn.many_callers.throughput)
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
        Ok(Comparison::new(network.name(), &turns, rate, &half_load))
    }

    /// Starts a bare gRPC server on the service's core. It answers every call with `target`'s answer, and
    /// stops when the returned [`Server`] is dropped.
    pub(super) async fn echo(&self, target: &Target) -> Result<(Target, Server), CliError> {
        let folder = TempDir::new().map_err(BenchError::system("cannot make a folder"))?;
        let answer = folder.path().join("answer");
        atomic_file::write(&answer, target.answer()).map_err(CliError::file(&answer))?;
        let arguments = ["bench", "echo", "--answer", text_path(&answer)?];
        // The server has read the file when it serves.
        let echo = Program::new(PROGRAM, &arguments).on_core(self.service_core);
        let server = echo.serve().await?;
        Ok((target.at(&server.grpc(), server.pid()), server))
    }

    /// Measures ONNX Runtime in process, on the service's core, for each of `batch_sizes`.
    async fn session(&self, onnx: &str, batch_sizes: &str) -> Result<Vec<BatchSpeed>, BenchError> {
        let arguments = [
            "bench",
            "session",
            "--onnx",
            onnx,
            "--batch-sizes",
            batch_sizes,
        ];
        let program = Program::new(PROGRAM, &arguments);
        let speeds: Vec<BatchSpeed> = program.on_core(self.service_core).figures().await?;
        if speeds.is_empty() {
            return Err(BenchError::Output {
                program: PROGRAM.to_owned(),
                problem: "no speeds".to_owned(),
            });
        }
        Ok(speeds)
    }

    /// Starts the service with one session of one thread, on the service's core.
    async fn serve(&self, store: &str) -> Result<Server, BenchError> {
        let program = Program::new(
            PROGRAM,
            &[
                "serve",
                "--store",
                store,
                "--set",
                "runtime.instances=1",
                "--set",
                "runtime.threads=1",
                "--set",
                "grpc.listen=127.0.0.1:0",
                "--set",
                "admin.listen=127.0.0.1:0",
                "--set",
                "http.listen=127.0.0.1:0",
                "--set",
                "metrics.listen=127.0.0.1:0",
            ],
        );
        program.on_core(self.service_core).serve().await
    }

    async fn footprint(&self, store: &str) -> Result<Footprint, CliError> {
        let mut ready_ms = Vec::new();
        for _ in 1..self.turns {
            let server = self.serve(store).await?;
            ready_ms.push(server.ready_after.as_secs_f64() * 1e3);
        }
        let server = self.serve(store).await?;
        ready_ms.push(server.ready_after.as_secs_f64() * 1e3);
        let target =
            Target::of_model(Remote::inference(server.grpc()), MODEL, self.connections).await?;
        self.once(&target, Load::Closed { callers: MANY }).await?;
        footprint::of(server.pid(), ready_ms).await
    }
}
