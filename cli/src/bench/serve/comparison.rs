//! The service against ONNX Runtime itself and a bare gRPC server, in turn.

use common::atomic_file;
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
};

const PROGRAM: &str = "inference-service";
const MODEL: &str = "model";

/// How everything is measured.
#[derive(Debug, Clone, Copy)]
pub(super) struct Setting {
    pub connections: usize,
    pub turns: usize,
    pub window: Window,
    pub service_core: usize,
    pub load_core: usize,
}

/// What `inference-service bench session` prints of a batch size.
#[derive(Debug, Clone, Copy, Deserialize)]
pub(super) struct BatchSpeed {
    pub batch: usize,
    pub samples_per_second: f64,
    pub p50_us: f64,
}

/// Measures each of `networks`, and what the service takes of the machine.
///
/// # Errors
/// When a program cannot be started, or a call fails.
pub(super) async fn measure(setting: &Setting, networks: &[Network]) -> Result<Figures, CliError> {
    let folder = TempDir::new().map_err(BenchError::system("cannot make a folder"))?;
    let mut comparisons = Vec::new();
    let mut footprint = None;
    for network in networks {
        let store = folder.path().join(network.name());
        let store = store.to_string_lossy();
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
                &store,
            ],
        )
        .run()
        .await?;
        comparisons.push(setting.compare(*network, &store, &model).await?);
        footprint = Some(setting.footprint(&store).await?);
    }
    Ok(Figures::new(comparisons, footprint))
}

impl Setting {
    /// `load` on `target`, as often as there are turns.
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
        let target =
            Target::of_model(Remote::inference(service.grpc()), MODEL, self.connections).await?;
        let folder = TempDir::new().map_err(BenchError::system("cannot make a folder"))?;
        let answer = folder.path().join("answer");
        atomic_file::write(&answer, target.answer()).map_err(CliError::file(&answer))?;
        let echo = Program::new(
            PROGRAM,
            &["bench", "echo", "--answer", &answer.to_string_lossy()],
        );
        let echo = echo.on_core(self.service_core).serve().await?;
        let echo_target = target.at(&echo.grpc());

        let mut turns = Vec::new();
        for number in 1..=self.turns {
            eprintln!("{}: turn {number} of {}", network.name(), self.turns);
            let session = Program::new(PROGRAM, &["bench", "session", "--onnx", onnx]);
            let session: Vec<BatchSpeed> = session.on_core(self.service_core).figures().await?;
            let closed = |callers| Load::Closed { callers };
            turns.push(Turn {
                session,
                echo: self.once(&echo_target, closed(1)).await?,
                one_caller: self.once(&target, closed(1)).await?,
                eight_callers: self.once(&target, closed(8)).await?,
                many_callers: self.once(&target, closed(64)).await?,
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
            eprintln!(
                "{}: open loop at {rate:.0} calls/s, turn {number} of {}",
                network.name(),
                self.turns
            );
            let seed = SEED + number as u64;
            half_load.push(self.once(&target, Load::Open { rate, seed }).await?);
        }
        Ok(Comparison::new(network.name(), &turns, rate, &half_load))
    }

    /// One session of one thread, on the service's core.
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
        self.once(&target, Load::Closed { callers: 64 }).await?;
        footprint::of(server.pid(), ready_ms).await
    }
}
