//! One connection, plain or over TLS.

use std::{
    io::{self, IoSlice},
    net::SocketAddr,
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_rustls::server::TlsStream;
use tonic::transport::server::{Connected, TcpConnectInfo};
use tracing::warn;

use super::socket::Socket;

/// The first byte of a TLS client: a handshake record (RFC 8446, section 5.1). Neither HTTP/1 nor HTTP/2
/// begins with it.
const TLS_HANDSHAKE: u8 = 0x16;

/// An accepted connection, for both tonic and axum.
#[derive(Debug)]
pub enum Connection {
    /// Plain text.
    Plain(PlainText),
    /// TLS, after the handshake.
    Tls(Box<TlsStream<Socket>>),
}

/// A plain-text connection. If the client speaks TLS, it fails and logs a warning.
#[derive(Debug)]
pub struct PlainText {
    stream: Socket,
    port: &'static str,
    peer: SocketAddr,
    first_byte_checked: bool,
}

impl PlainText {
    pub(super) fn new(stream: Socket, port: &'static str, peer: SocketAddr) -> Self {
        Self {
            stream,
            port,
            peer,
            first_byte_checked: false,
        }
    }

    fn check_first_byte(&mut self, byte: u8) -> io::Result<()> {
        self.first_byte_checked = true;
        if byte != TLS_HANDSHAKE {
            return Ok(());
        }
        let reason = "TLS on a plain-text port";
        warn!(port = self.port, peer = %self.peer, reason, "connection rejected");
        Err(io::Error::new(io::ErrorKind::InvalidData, reason))
    }
}

impl AsyncRead for PlainText {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(context, buffer))?;
        if !self.first_byte_checked
            && let Some(byte) = buffer.filled().get(before)
        {
            self.check_first_byte(*byte)?;
        }
        Poll::Ready(Ok(()))
    }
}

impl Connection {
    /// The connection below TLS.
    pub(super) fn socket(&self) -> &Socket {
        match self {
            Self::Plain(plain) => &plain.stream,
            Self::Tls(stream) => stream.get_ref().0,
        }
    }

    fn writer(self: Pin<&mut Self>) -> Pin<&mut (dyn AsyncWrite + Send + Unpin)> {
        match self.get_mut() {
            Self::Plain(plain) => Pin::new(&mut plain.stream),
            Self::Tls(stream) => Pin::new(stream),
        }
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(plain) => Pin::new(plain).poll_read(context, buffer),
            Self::Tls(stream) => Pin::new(stream).poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.writer().poll_write(context, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.writer().poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Plain(plain) => plain.stream.is_write_vectored(),
            Self::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.writer().poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.writer().poll_shutdown(context)
    }
}

impl Connected for Connection {
    type ConnectInfo = TcpConnectInfo;

    fn connect_info(&self) -> TcpConnectInfo {
        self.socket().connect_info()
    }
}
