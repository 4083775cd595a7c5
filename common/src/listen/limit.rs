//! Connections of which there may be so many at a time: each costs memory, used or not.

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

/// Lets at most `limit` connections pass at a time; one more is closed at once, so that its client
/// tries again later rather than waits for an answer that does not come.
///
/// What `open` gives for a connection is dropped with it.
pub fn limit<C, E, T>(
    connections: impl Stream<Item = Result<C, E>> + Send,
    limit: usize,
    open: impl Fn() -> T + Send,
) -> impl Stream<Item = Result<Limited<C, T>, E>> + Send
where
    C: Send,
    E: Send,
    T: Send,
{
    let places = Arc::new(Semaphore::new(limit));
    connections.filter_map(move |connection| {
        let place = Arc::clone(&places).try_acquire_owned().ok();
        if place.is_none() {
            warn!(limit, "too many connections; one is closed");
        }
        let limited = |place| {
            connection.map(|connection| Limited {
                connection,
                _place: place,
                _open: open(),
            })
        };
        ready(place.map(limited))
    })
}

/// A connection that holds its place until it is dropped.
pub struct Limited<C, T> {
    connection: C,
    _place: OwnedSemaphorePermit,
    // Dropped last: who sees in a metric that a connection is gone finds its place free.
    _open: T,
}

impl<C: Connected, T> Connected for Limited<C, T> {
    type ConnectInfo = C::ConnectInfo;

    fn connect_info(&self) -> C::ConnectInfo {
        self.connection.connect_info()
    }
}

impl<C: AsyncRead + Unpin, T: Unpin> AsyncRead for Limited<C, T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.connection).poll_read(context, buffer)
    }
}

impl<C: AsyncWrite + Unpin, T: Unpin> AsyncWrite for Limited<C, T> {
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
