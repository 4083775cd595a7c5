//! A gRPC server that answers every inference call with the same bytes and computes nothing.

use std::{convert::Infallible, io, net::SocketAddr, path::Path};

use bytes::Bytes;
use common::ready_file::ReadyFile;
use futures::{
    FutureExt,
    future::{BoxFuture, Ready, ready},
};
use proto::inference::grpc_inference_service_server;
use server::{
    grpc,
    listen::{ListenError, bind},
    raw_codec::RawCodec,
};
use tokio_util::sync::CancellationToken;
use tonic::{
    Request, Response, Status,
    body::Body,
    codegen::{Service, http},
    server::{Grpc, NamedService, UnaryService},
    transport::server::TcpIncoming,
};

/// Why the echo server does not run.
#[derive(Debug, thiserror::Error)]
pub enum EchoError {
    /// The port cannot be had.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// The ready file cannot be written.
    #[error("{0}")]
    ReadyFile(io::Error),
    /// The server failed.
    #[error("the echo server stopped by itself: {0}")]
    Stopped(#[from] tonic::transport::Error),
}

/// Serves on `listen` until `shutdown`, and writes `ready_file` once it does. `answer` is an encoded
/// response.
///
/// # Errors
/// See [`EchoError`].
pub async fn serve(
    listen: SocketAddr,
    answer: Bytes,
    ready_file: &Path,
    shutdown: CancellationToken,
) -> Result<(), EchoError> {
    let mut ready_file = ReadyFile::prepare(ready_file).map_err(EchoError::ReadyFile)?;
    let (listener, address) = bind("--listen", listen).await?;
    let server = grpc::server()
        .add_service(Echo { answer })
        .serve_with_incoming_shutdown(
            TcpIncoming::from(listener).with_nodelay(Some(true)),
            shutdown.cancelled_owned(),
        );
    ready_file
        .write(&[("grpc", address)])
        .map_err(EchoError::ReadyFile)?;
    Ok(server.await?)
}

/// Stands where the inference service stands, so that the same client calls both.
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
