//! A connection that records its activity and can be aborted.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_util::sync::{CancellationToken, DropGuard, WaitForCancellationFutureOwned};
use tonic::transport::server::{Connected, TcpConnectInfo};

use super::{activity::Activity, connection::Connection};

/// A connection that records its transfers in an [`Activity`] and fails once that is aborted.
pub(super) struct Tracked {
    connection: Connection,
    activity: Arc<Activity>,
    aborted: Pin<Box<WaitForCancellationFutureOwned>>,
    _dropped: DropGuard,
}

/// The connection of a call, for tower layers.
#[derive(Debug, Clone)]
pub(super) struct ConnectionInfo {
    pub(super) tcp: TcpConnectInfo,
    pub(super) activity: Arc<Activity>,
}

impl Tracked {
    /// Cancels `dropped` when the connection is dropped.
    pub(super) fn new(
        connection: Connection,
        activity: Arc<Activity>,
        dropped: CancellationToken,
    ) -> Self {
        Self {
            connection,
            aborted: Box::pin(activity.abort.clone().cancelled_owned()),
            activity,
            _dropped: dropped.drop_guard(),
        }
    }

    /// Returns `result`, or an error if it is pending and the connection is aborted.
    fn unless_aborted<T>(
        &mut self,
        context: &mut Context<'_>,
        result: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if result.is_ready() {
            return result;
        }
        let aborted = self.aborted.as_mut().poll(context);
        aborted.map(|()| Err(io::ErrorKind::ConnectionAborted.into()))
    }

    fn record_written<T>(
        &mut self,
        context: &mut Context<'_>,
        written: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.activity.sent();
        } else {
            self.activity.send_blocked();
        }
        self.unless_aborted(context, written)
    }
}

impl Connected for Tracked {
    type ConnectInfo = ConnectionInfo;

    fn connect_info(&self) -> ConnectionInfo {
        ConnectionInfo {
            tcp: self.connection.connect_info(),
            activity: Arc::clone(&self.activity),
        }
    }
}

impl AsyncRead for Tracked {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let read = Pin::new(&mut self.connection).poll_read(context, buffer);
        if read.is_ready() {
            self.activity.received();
        }
        self.unless_aborted(context, read)
    }
}

impl AsyncWrite for Tracked {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.connection).poll_write(context, bytes);
        self.record_written(context, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.connection).poll_write_vectored(context, slices);
        self.record_written(context, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.connection.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.connection).poll_flush(context);
        // Usually there was nothing to flush.
        if flushed.is_ready() {
            return flushed;
        }
        self.record_written(context, flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let shut = Pin::new(&mut self.connection).poll_shutdown(context);
        self.unless_aborted(context, shut)
    }
}
