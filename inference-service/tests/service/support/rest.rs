//! HTTP/1.1 as bytes on a socket, to send requests that no client would send.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    sync::Arc,
    time::Duration,
};

use rustls::{
    ClientConfig, ClientConnection, RootCertStore, StreamOwned,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};
use server::security::tls::ClientTls;

/// A kept-alive connection.
pub struct Connection {
    stream: BufReader<Box<dyn Stream>>,
}

/// A connection in plain text or over TLS.
trait Stream: Read + Write + Send {}

impl<S: Read + Write + Send> Stream for S {}

/// A response.
#[derive(Debug)]
pub struct Response {
    pub status: u16,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Connection {
    pub fn to(address: &str) -> Self {
        Self::of(Box::new(connect(address)))
    }

    /// Connects over TLS. If either side rejects the other, the first request fails.
    pub fn over_tls(address: &str, tls: &ClientTls) -> Self {
        let host = address.split(':').next().expect("it has a host");
        let name = host.to_owned().try_into().expect("a valid name");
        let client = ClientConnection::new(Arc::new(client_config(tls)), name);
        let client = client.expect("the configuration is good");
        Self::of(Box::new(StreamOwned::new(client, connect(address))))
    }

    fn of(stream: Box<dyn Stream>) -> Self {
        Self {
            stream: BufReader::new(stream),
        }
    }

    /// Sends bytes as they are.
    pub fn send(&mut self, bytes: &[u8]) {
        // Fails if the service has already answered and closed the connection, which `receive` shows.
        let _ = self.stream.get_mut().write_all(bytes);
    }

    /// Sends a request and receives the response.
    pub fn call(&mut self, line: &str, headers: &[(&str, &str)], body: &[u8]) -> Response {
        self.request(line, headers, body);
        self.receive().expect("an answer")
    }

    /// Sends a request with a content length.
    pub fn request(&mut self, line: &str, headers: &[(&str, &str)], body: &[u8]) {
        let mut request = format!("{line} HTTP/1.1\r\nhost: test\r\n");
        for (name, value) in headers {
            request += &format!("{name}: {value}\r\n");
        }
        request += &format!("content-length: {}\r\n\r\n", body.len());
        self.send(&[request.as_bytes(), body].concat());
    }

    /// Receives the next response; `None` if the service closes the connection.
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

fn connect(address: &str) -> TcpStream {
    let stream = TcpStream::connect(address).expect("the service can be reached");
    let patience = Some(Duration::from_secs(30));
    stream.set_read_timeout(patience).expect("a valid time-out");
    stream
}

fn client_config(tls: &ClientTls) -> ClientConfig {
    let certificates = |file| CertificateDer::pem_file_iter(file).expect("a PEM file");
    let mut roots = RootCertStore::empty();
    for certificate in certificates(&tls.ca) {
        let certificate = certificate.expect("a certificate");
        roots.add(certificate).expect("it is an authority's");
    }
    let config = ClientConfig::builder().with_root_certificates(roots);
    match (&tls.certificate, &tls.key) {
        (Some(certificate), Some(key)) => {
            let chain = certificates(certificate).map(|one| one.expect("a certificate"));
            let key = PrivateKeyDer::from_pem_file(key).expect("a key");
            let config = config.with_client_auth_cert(chain.collect(), key);
            config.expect("they fit each other")
        }
        _ => config.with_no_client_auth(),
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
