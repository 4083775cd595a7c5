//! What the servers have in common that stand in for teachers.

use std::{io, net::SocketAddr, path::PathBuf};

use anyhow::Context;
use clap::Args;
use common::shutdown;
use server::grpc;
use teacher_service::serve::WINDOW_BYTES;
use tokio::{net::TcpListener, runtime::Runtime};
use tokio_util::sync::CancellationToken;
use tonic::transport::server::TcpIncoming;

/// The option of a part that serves.
#[derive(Debug, Args)]
pub(super) struct ReadyFileArgument {
    /// Write the addresses to this file, as JSON, once the part serves.
    #[arg(long = "ready-file", value_name = "PATH")]
    pub path: PathBuf,
}

/// Runs `server` on network threads; a signal cancels the token that it gets.
pub(super) fn run<F>(server: impl FnOnce(CancellationToken) -> F) -> anyhow::Result<()>
where
    F: Future<Output = anyhow::Result<()>>,
{
    let runtime = Runtime::new().context("cannot start the network threads")?;
    runtime.block_on(async {
        let stop = shutdown::on_signal().context("cannot listen for signals")?;
        server(stop).await
    })
}

/// Binds a free port of this machine.
pub(super) async fn listen() -> io::Result<(TcpListener, SocketAddr)> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    Ok((listener, address))
}

/// A server with the settings of a real teacher's.
pub(super) fn builder() -> grpc::Server {
    grpc::server()
        .initial_stream_window_size(WINDOW_BYTES)
        .initial_connection_window_size(WINDOW_BYTES)
}

/// Connections without Nagle's delay.
pub(super) fn incoming(listener: TcpListener) -> TcpIncoming {
    TcpIncoming::from(listener).with_nodelay(Some(true))
}
