//! The answers of an object store to clients that send too many requests.

use std::{
    io::{self, Read, Write},
    net::TcpStream,
};

/// An answer without which a store carries out nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Throttling {
    status: &'static str,
    /// As S3 calls it.
    code: &'static str,
    /// The header `Retry-After`.
    retry_after_seconds: Option<u64>,
}

impl Throttling {
    /// Every kind of answer, with and without a pause that the store asks for.
    pub(crate) const ALL: [Self; 4] = [
        Self::SLOW_DOWN,
        Self::TOO_MANY_REQUESTS,
        Self::SLOW_DOWN.with_retry_after(1),
        Self::TOO_MANY_REQUESTS.with_retry_after(1),
    ];

    const SLOW_DOWN: Self = Self {
        status: "503 Service Unavailable",
        code: "SlowDown",
        retry_after_seconds: None,
    };
    const TOO_MANY_REQUESTS: Self = Self {
        status: "429 Too Many Requests",
        code: "TooManyRequests",
        retry_after_seconds: None,
    };

    const fn with_retry_after(self, seconds: u64) -> Self {
        Self {
            retry_after_seconds: Some(seconds),
            ..self
        }
    }

    /// Reads the rest of the request that begins with `start`, and answers it. The connection must be closed then.
    pub(crate) fn answer(self, mut client: &TcpStream, start: &[u8]) -> io::Result<()> {
        let mut request = start.to_vec();
        let head = loop {
            let end = request.windows(4).position(|bytes| bytes == b"\r\n\r\n");
            match end {
                Some(end) => break end + 4,
                None => read_more(client, &mut request)?,
            }
        };
        let length = content_length(&String::from_utf8_lossy(&request[..head]));
        while request.len() < head + length {
            read_more(client, &mut request)?;
        }
        let body = format!("<Error><Code>{}</Code></Error>", self.code);
        let retry_after = self
            .retry_after_seconds
            .map_or_else(String::new, |seconds| format!("Retry-After: {seconds}\r\n"));
        let head = format!(
            "HTTP/1.1 {}\r\nContent-Type: application/xml\r\nContent-Length: {}\r\n{retry_after}Connection: close\r\n\r\n",
            self.status,
            body.len()
        );
        client.write_all(head.as_bytes())?;
        if !request.starts_with(b"HEAD ") {
            client.write_all(body.as_bytes())?;
        }
        Ok(())
    }
}

/// # Errors
/// If the client has closed the connection.
fn read_more(mut client: &TcpStream, request: &mut Vec<u8>) -> io::Result<()> {
    let mut buffer = [0; 16 << 10];
    match client.read(&mut buffer)? {
        0 => Err(io::ErrorKind::UnexpectedEof.into()),
        count => {
            request.extend_from_slice(&buffer[..count]);
            Ok(())
        }
    }
}

/// The length of the body that follows this head.
fn content_length(head: &str) -> usize {
    let head = head.to_ascii_lowercase();
    assert!(!head.contains("transfer-encoding"), "{head}");
    let length = head
        .lines()
        .find_map(|line| line.strip_prefix("content-length:"));
    length.map_or(0, |length| length.trim().parse().unwrap())
}
