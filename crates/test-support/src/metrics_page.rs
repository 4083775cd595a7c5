//! Reads values from a service's metrics page.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
};

use crate::conditions::SOON;

/// Returns the value of a line of `http://address/metrics`, or 0 if the line is missing.
pub fn metric(address: SocketAddr, line: &str) -> f64 {
    metric_in(&http_get(address, "/metrics"), line)
}

/// Returns the value of a line of a metrics page, or 0 if the line is missing.
pub fn metric_in(text: &str, line: &str) -> f64 {
    let value = text
        .lines()
        .find_map(|found| found.strip_prefix(line)?.strip_prefix(' '));
    value.map_or(0.0, |value| value.parse().unwrap())
}

/// Returns the body of `http://address/path`.
///
/// # Panics
/// If the status is not 200.
pub fn http_get(address: SocketAddr, path: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(SOON)).unwrap();
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n"
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    body.to_owned()
}
