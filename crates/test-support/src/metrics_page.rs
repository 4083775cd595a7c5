//! Values of a service's metrics page.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
};

use crate::conditions::SOON;

/// Value of a line of `http://address/metrics`; 0 where there is none.
pub fn metric(address: SocketAddr, line: &str) -> f64 {
    metric_in(&http_get(address, "/metrics"), line)
}

/// The same in the text of a page of metrics.
pub fn metric_in(text: &str, line: &str) -> f64 {
    let value = text
        .lines()
        .find_map(|found| found.strip_prefix(line)?.strip_prefix(' '));
    value.map_or(0.0, |value| value.parse().unwrap())
}

/// Body of `http://address/path`.
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
