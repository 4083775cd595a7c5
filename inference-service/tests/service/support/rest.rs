//! HTTP/1.1 as bytes on a socket, so that a test can send what no client would.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    time::Duration,
};

/// A kept-alive connection.
pub struct Connection {
    stream: BufReader<TcpStream>,
}

/// What came back.
#[derive(Debug)]
pub struct Response {
    pub status: u16,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Connection {
    pub fn to(address: &str) -> Self {
        let stream = TcpStream::connect(address).expect("the service can be reached");
        let patience = Some(Duration::from_secs(30));
        stream.set_read_timeout(patience).expect("a valid time-out");
        Self {
            stream: BufReader::new(stream),
        }
    }

    /// Sends bytes as they are.
    pub fn send(&mut self, bytes: &[u8]) {
        // An error means that the service has answered and hung up in the middle, which shows.
        let _ = self.stream.get_mut().write_all(bytes);
    }

    /// A request with its length, and the answer.
    pub fn call(&mut self, line: &str, headers: &[(&str, &str)], body: &[u8]) -> Response {
        let mut request = format!("{line} HTTP/1.1\r\nhost: test\r\n");
        for (name, value) in headers {
            request += &format!("{name}: {value}\r\n");
        }
        request += &format!("content-length: {}\r\n\r\n", body.len());
        self.send(&[request.as_bytes(), body].concat());
        self.receive().expect("an answer")
    }

    /// The next answer; `None` where the service hangs up instead.
    pub fn receive(&mut self) -> Option<Response> {
        let status = self.line()?;
        let status = status
            .split(' ')
            .nth(1)
            .and_then(|status| status.parse().ok());
        let mut headers = Vec::new();
        loop {
            let line = self.line()?;
            let Some((name, value)) = line.split_once(':') else {
                break;
            };
            headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }
        let mut response = Response {
            status: status.expect("a status line"),
            headers,
            body: Vec::new(),
        };
        let length = response.header("content-length").unwrap_or("0");
        response.body = vec![0; length.parse().expect("a number")];
        self.stream.read_exact(&mut response.body).ok()?;
        Some(response)
    }

    fn line(&mut self) -> Option<String> {
        let mut line = String::new();
        match self.stream.read_line(&mut line) {
            Ok(0) | Err(_) => None,
            Ok(_) => Some(line.trim_end().to_owned()),
        }
    }
}

impl Response {
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(found, _)| found == name);
        found.map(|(_, value)| value.as_str())
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).expect("the body is JSON")
    }

    /// The protocol's error, and the reason beside it.
    pub fn refusal(&self) -> (String, String) {
        let json = self.json();
        let text = |name: &str| json[name].as_str().expect("it is a text").to_owned();
        (text("error"), text("reason"))
    }
}
