//! Connections that are counted and limited: each costs memory, used or not.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use futures::{Stream, StreamExt, future::ready};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    sync::{OwnedSemaphorePermit, Semaphore},
};
use tonic::transport::server::Connected;
use tracing::warn;

use crate::metrics::Open;

/// Lets at most `limit` connections pass at a time; one more is closed at once, so that its trainer
/// tries again later rather than waits for an answer that does not come.
pub fn limit<C, E>(
    connections: impl Stream<Item = Result<C, E>> + Send,
    limit: usize,
) -> impl Stream<Item = Result<Counted<C>, E>> + Send
where
    C: Send,
    E: Send,
{
    let places = Arc::new(Semaphore::new(limit));
    connections.filter_map(move |connection| {
        let place = Arc::clone(&places).try_acquire_owned().ok();
        if place.is_none() {
            warn!(limit, "too many connections; one is closed");
        }
        let count = |place| connection.map(|connection| Counted::new(connection, place));
        ready(place.map(count))
    })
}

/// A connection that holds its place until it is dropped.
pub struct Counted<C> {
    connection: C,
    _open: Open,
    _place: OwnedSemaphorePermit,
}

impl<C> Counted<C> {
    fn new(connection: C, place: OwnedSemaphorePermit) -> Self {
        Self {
            connection,
            _open: Open::connection(),
            _place: place,
        }
    }
}

impl<C: Connected> Connected for Counted<C> {
    type ConnectInfo = C::ConnectInfo;

    fn connect_info(&self) -> C::ConnectInfo {
        self.connection.connect_info()
    }
}

impl<C: AsyncRead + Unpin> AsyncRead for Counted<C> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.connection).poll_read(context, buffer)
    }
}

impl<C: AsyncWrite + Unpin> AsyncWrite for Counted<C> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.connection).poll_write(context, buffer)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffers: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.connection).poll_write_vectored(context, buffers)
    }

    fn is_write_vectored(&self) -> bool {
        self.connection.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.connection).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.connection).poll_shutdown(context)
    }
}
