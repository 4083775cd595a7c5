//! A connection that tells what it does, and that can be ended.

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

/// A connection whose bytes are noted in its [`Activity`], and that fails once it is cut.
pub(super) struct Tracked {
    connection: Connection,
    activity: Arc<Activity>,
    cut: Pin<Box<WaitForCancellationFutureOwned>>,
    _gone: DropGuard,
}

/// What a call's layers know of its connection.
#[derive(Debug, Clone)]
pub(super) struct ConnectionInfo {
    pub(super) tcp: TcpConnectInfo,
    pub(super) activity: Arc<Activity>,
}

impl Tracked {
    /// `gone` is cancelled when the connection has been dropped.
    pub(super) fn new(
        connection: Connection,
        activity: Arc<Activity>,
        gone: CancellationToken,
    ) -> Self {
        Self {
            connection,
            cut: Box::pin(activity.cut.clone().cancelled_owned()),
            activity,
            _gone: gone.drop_guard(),
        }
    }

    /// Fails once the connection is cut, where it has nothing else to say.
    fn unless_cut<T>(
        &mut self,
        context: &mut Context<'_>,
        done: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if done.is_ready() {
            return done;
        }
        let cut = self.cut.as_mut().poll(context);
        cut.map(|()| Err(io::ErrorKind::ConnectionAborted.into()))
    }

    fn note_written<T>(
        &mut self,
        context: &mut Context<'_>,
        written: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.activity.sent();
        } else {
            self.activity.unread();
        }
        self.unless_cut(context, written)
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
        self.unless_cut(context, read)
    }
}

impl AsyncWrite for Tracked {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.connection).poll_write(context, bytes);
        self.note_written(context, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.connection).poll_write_vectored(context, slices);
        self.note_written(context, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.connection.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.connection).poll_flush(context);
        // Mostly there was nothing to flush.
        if flushed.is_ready() {
            return flushed;
        }
        self.note_written(context, flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let shut = Pin::new(&mut self.connection).poll_shutdown(context);
        self.unless_cut(context, shut)
    }
}
