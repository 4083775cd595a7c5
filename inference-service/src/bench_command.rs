//! `inference-service bench`: the denominators of `retort bench serve`.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::anyhow;
use artifacts::model_store::ModelName;
use clap::Subcommand;
use common::output::Results;
use inference_service::bench::{BenchNetwork, echo, session, store};
use server::program;

/// What is measured.
#[derive(Subcommand)]
pub(crate) enum BenchCommand {
    /// Write a model store that holds a network with random weights.
    Store {
        /// Which network.
        #[arg(long, value_enum)]
        network: BenchNetwork,
        /// Its name in the store.
        #[arg(long)]
        model: ModelName,
        /// Folder of the store.
        #[arg(long, value_name = "DIR")]
        output: PathBuf,
    },
    /// Run an ONNX file in this process, without a service, and print its speed as JSON.
    Session {
        /// The ONNX file.
        #[arg(long, value_name = "FILE")]
        onnx: PathBuf,
        /// Threads that share the work of a run.
        #[arg(long, default_value_t = 1)]
        threads: usize,
        /// Batch sizes that are measured.
        #[arg(long, value_delimiter = ',', default_value = "1,2,4,8,16,32,64")]
        batch_sizes: Vec<usize>,
        /// How long each is run, milliseconds.
        #[arg(long, default_value_t = 300)]
        milliseconds: u64,
    },
    /// Warm an ONNX file up as the service does, and print how much longer the first run of a batch
    /// size takes than later ones, over all sizes.
    FirstRuns {
        /// The ONNX file.
        #[arg(long, value_name = "FILE")]
        onnx: PathBuf,
        /// Threads that share the work of a run.
        #[arg(long, default_value_t = 1)]
        threads: usize,
        /// Every size from 1 to this one is run.
        #[arg(long, default_value_t = 64)]
        largest_batch: usize,
    },
    /// Answer every inference call with the same bytes, until SIGTERM or SIGINT.
    Echo {
        /// File with an encoded response.
        #[arg(long, value_name = "FILE")]
        answer: PathBuf,
        /// Port 0 takes a free one.
        #[arg(long, default_value = "127.0.0.1:0")]
        listen: SocketAddr,
        /// Write the address in use here, as JSON, once serving.
        #[arg(long, value_name = "PATH")]
        ready_file: PathBuf,
    },
}

/// Does it.
pub(crate) fn execute(
    command: BenchCommand,
    runtime: &tokio::runtime::Runtime,
) -> anyhow::Result<()> {
    match command {
        BenchCommand::Store {
            network,
            model,
            output,
        } => store::write(&output, &model, network)?,
        BenchCommand::FirstRuns {
            onnx,
            threads,
            largest_batch,
        } => {
            let bytes = read(&onnx)?;
            let ratio = session::first_run_ratio(&bytes, threads.max(1), largest_batch.max(1))?;
            writeln!(Results, "{ratio}")?;
        }
        BenchCommand::Session {
            onnx,
            threads,
            batch_sizes,
            milliseconds,
        } => {
            let bytes = read(&onnx)?;
            let time = Duration::from_millis(milliseconds);
            let speeds = session::measure(&bytes, threads.max(1), &batch_sizes, time)?;
            writeln!(Results, "{}", serde_json::to_string(&speeds)?)?;
        }
        BenchCommand::Echo {
            answer,
            listen,
            ready_file,
        } => {
            let bytes = read(&answer)?;
            let shutdown = program::shutdown_token(runtime)?;
            runtime.block_on(echo::serve(listen, bytes.into(), &ready_file, shutdown))?;
        }
    }
    Ok(())
}

fn read(file: &Path) -> anyhow::Result<Vec<u8>> {
    fs::read(file).map_err(|error| anyhow!("{}: {error}", file.display()))
}
