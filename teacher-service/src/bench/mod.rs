//! `teacher-service bench`: the teacher's side of `retort bench`.

mod echo;
mod forward;
mod simulated;

use std::{io, net::SocketAddr, path::PathBuf};

use anyhow::anyhow;
use clap::{Args, Subcommand};
use common::shutdown;
use server::grpc;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tonic::transport::server::TcpIncoming;

use crate::serve::WINDOW_BYTES;

/// Parts of benchmarks; `retort bench` starts them and reads what they print.
#[derive(Args)]
#[command(after_help = "Examples:
  teacher-service bench forward --artifact runs/demo/teacher/artifact --samples 20000
  teacher-service bench simulated-teachers --teachers 4 --ready-file teachers.json
  teacher-service bench echo --ready-file echo.json")]
pub struct BenchArguments {
    #[command(subcommand)]
    part: Part,
}

#[derive(Subcommand)]
enum Part {
    /// Compute logits in this process, without any network, and print how long it took as JSON.
    Forward(forward::ForwardArguments),
    /// Serve teachers that are none: they speak the real protocol, wait for a fixed time a batch
    /// and answer a constant.
    SimulatedTeachers(simulated::SimulatedArguments),
    /// Serve a bare tonic stream that answers each batch with the bytes of its soft targets.
    Echo(echo::EchoArguments),
}

/// Where a part that serves says that it does.
#[derive(Args)]
struct ReadyFileArgument {
    /// Write the addresses in use here, as JSON, once serving.
    #[arg(long = "ready-file", value_name = "PATH")]
    path: PathBuf,
}

/// Does one part of a benchmark.
///
/// # Errors
/// What is wrong with the arguments or the machine.
pub fn execute(arguments: BenchArguments) -> anyhow::Result<()> {
    match arguments.part {
        Part::Forward(arguments) => forward::execute(&arguments),
        Part::SimulatedTeachers(arguments) => block_on(simulated::execute(&arguments)),
        Part::Echo(arguments) => block_on(echo::execute(&arguments)),
    }
}

fn block_on(part: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<()> {
    tokio::runtime::Runtime::new()
        .map_err(|error| anyhow!("cannot start the network threads: {error}"))?
        .block_on(part)
}

fn shutdown() -> anyhow::Result<CancellationToken> {
    shutdown::on_signal().map_err(|error| anyhow!("cannot listen for signals: {error}"))
}

async fn listen() -> io::Result<(TcpListener, SocketAddr)> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    Ok((listener, address))
}

/// A server with the settings of a real teacher's.
fn server() -> grpc::Server {
    grpc::server()
        .initial_stream_window_size(WINDOW_BYTES)
        .initial_connection_window_size(WINDOW_BYTES)
}

fn incoming(listener: TcpListener) -> TcpIncoming {
    TcpIncoming::from(listener).with_nodelay(Some(true))
}
