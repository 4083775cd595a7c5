//! A gRPC server that answers every inference call with the same bytes and computes nothing.

use std::{convert::Infallible, fs, net::SocketAddr, path::PathBuf};

use anyhow::Context;
use bytes::Bytes;
use clap::Args;
use common::{ready_file::ReadyFile, shutdown};
use futures::{
    FutureExt,
    future::{BoxFuture, Ready, ready},
};
use proto::inference::grpc_inference_service_server;
use server::{grpc, listen::bind, raw_codec::RawCodec};
use tokio::runtime::Builder;
use tonic::{
    Request, Response, Status,
    body::Body,
    codegen::{Service, http},
    server::{Grpc, NamedService, UnaryService},
    transport::server::TcpIncoming,
};

/// Answer every inference call with the same bytes.
#[derive(Debug, Args)]
pub(crate) struct InferenceEchoArguments {
    /// File with an encoded response.
    #[arg(long, value_name = "FILE")]
    answer: PathBuf,
    /// Address; port 0 takes a free one.
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// Write the address to this file, as JSON, once the server serves.
    #[arg(long, value_name = "PATH")]
    ready_file: PathBuf,
}

/// Serves until a signal asks to stop.
pub(super) fn serve(arguments: &InferenceEchoArguments) -> anyhow::Result<()> {
    let answer = fs::read(&arguments.answer);
    let answer = answer.with_context(|| arguments.answer.display().to_string())?;
    // As the inference service on one core.
    let runtime = Builder::new_current_thread().enable_all().build();
    runtime
        .context("cannot start the async runtime")?
        .block_on(async {
            let stop = shutdown::on_signal().context("cannot listen for signals")?;
            let mut ready_file = ReadyFile::prepare(&arguments.ready_file)?;
            let (listener, address) = bind("--listen", arguments.listen).await?;
            let echo = Echo {
                answer: answer.into(),
            };
            let server = grpc::server()
                .add_service(echo)
                .serve_with_incoming_shutdown(
                    TcpIncoming::from(listener).with_nodelay(Some(true)),
                    stop.cancelled_owned(),
                );
            ready_file.write(&[("grpc", address)])?;
            server.await?;
            Ok(())
        })
}

/// Has the name of the inference service, so that the same client calls both.
#[derive(Clone)]
struct Echo {
    answer: Bytes,
}

impl NamedService for Echo {
    const NAME: &'static str = grpc_inference_service_server::SERVICE_NAME;
}

impl Service<http::Request<Body>> for Echo {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn poll_ready(
        &mut self,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Result<(), Infallible>> {
        std::task::Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let echo = self.clone();
        async move { Ok(Grpc::new(RawCodec).unary(echo, request).await) }.boxed()
    }
}

impl UnaryService<Bytes> for Echo {
    type Response = Bytes;
    type Future = Ready<Result<Response<Bytes>, Status>>;

    fn call(&mut self, _: Request<Bytes>) -> Self::Future {
        ready(Ok(Response::new(self.answer.clone())))
    }
}
