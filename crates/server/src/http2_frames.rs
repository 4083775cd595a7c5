//! HTTP/2 frames as bytes, for tests of what no client or server can be made to send, or to show.

use tokio::io::{AsyncRead, AsyncReadExt};

/// What a client sends first (RFC 9113, section 3.4).
pub(crate) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// The type of a frame (RFC 9113, section 6), as far as tests look at it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Data = 0,
    Headers = 1,
    Reset = 3,
    Settings = 4,
    Ping = 6,
    GoAway = 7,
}

/// On HEADERS: no CONTINUATION follows.
pub(crate) const END_HEADERS: u8 = 4;
/// On HEADERS and DATA: the caller sends nothing more.
pub(crate) const END_STREAM: u8 = 1;

/// A frame's bytes.
pub(crate) fn frame(kind: Kind, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let [_, length @ ..] = (payload.len() as u32).to_be_bytes();
    let head = [&length[..], &[kind as u8, flags], &stream.to_be_bytes()];
    [head.concat().as_slice(), payload].concat()
}

/// The headers of a gRPC call of `path` (RFC 7541, without the dynamic table).
pub(crate) fn call_headers(path: &str) -> Vec<u8> {
    /// `:method: POST` and `:scheme: http`, from the static table.
    const POST_HTTP: [u8; 2] = [0x83, 0x86];
    let literal = |text: &str| [&[text.len() as u8], text.as_bytes()].concat();
    // The names of the static table: 4 is `:path`, 31 (15 + 16) is `content-type`.
    let path = [vec![0x04], literal(path)].concat();
    let content = [vec![0x0f, 0x10], literal("application/grpc")].concat();
    let trailers = [vec![0x00], literal("te"), literal("trailers")].concat();
    [POST_HTTP.to_vec(), path, content, trailers].concat()
}

/// Kind and stream of the next frame; its payload is skipped. The kind is `None` for those that tests do
/// not look at.
pub(crate) async fn next(connection: &mut (impl AsyncRead + Unpin)) -> (Option<Kind>, u32) {
    let mut head = [0; 9];
    connection.read_exact(&mut head).await.expect("a frame");
    let [a, b, c, kind, _, stream @ ..] = head;
    let length = u32::from_be_bytes([0, a, b, c]);
    let mut payload = vec![0; length as usize];
    connection
        .read_exact(&mut payload)
        .await
        .expect("all of it");
    let kinds = [
        Kind::Data,
        Kind::Headers,
        Kind::Reset,
        Kind::Settings,
        Kind::Ping,
        Kind::GoAway,
    ];
    let kind = kinds.into_iter().find(|known| *known as u8 == kind);
    (kind, u32::from_be_bytes(stream))
}
