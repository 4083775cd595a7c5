//! A bucket of a real object store: SeaweedFS, which speaks the protocol of S3.

use std::{
    collections::BTreeMap,
    io::{Read, Write},
    net::{IpAddr, SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::Command,
    sync::atomic::{AtomicU8, Ordering},
};

use crate::{
    addresses::own_host,
    conditions::{SOON, eventually},
    process::Process,
};

/// The ports of the server, and the options that set them.
const PORTS: [&str; 8] = [
    "s3.port",
    "s3.port.grpc",
    "filer.port",
    "filer.port.grpc",
    "master.port",
    "master.port.grpc",
    "volume.port",
    "volume.port.grpc",
];

const NAME: &str = "models";

/// An empty bucket that accepts every caller, and its server, which is killed when this is dropped.
pub struct Bucket {
    server: Process,
    pub address: SocketAddr,
    /// Sockets that the server makes outside its folder.
    sockets: Vec<PathBuf>,
    _folder: tempfile::TempDir,
}

impl Bucket {
    /// Starts the server that `scripts/setup --tests` installs.
    pub fn start() -> Self {
        // The server takes port numbers only. Nothing else uses the host, so nothing can take the ports.
        static NEXT: AtomicU8 = AtomicU8::new(128);
        let package = Path::new(env!("CARGO_MANIFEST_DIR"));
        let program = package.join("../../.deps/seaweedfs/weed");
        let missing = "run scripts/setup --tests";
        assert!(program.exists(), "{}: {missing}", program.display());
        let host = IpAddr::from(own_host(NEXT.fetch_add(1, Ordering::Relaxed)));
        let listeners = PORTS.map(|_| TcpListener::bind((host, 0)).unwrap());
        let ports = listeners.map(|listener| listener.local_addr().unwrap().port());

        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("data");
        std::fs::create_dir(&data).unwrap();
        let mut command = Command::new(program);
        // It looks for configuration in its working directory and in HOME.
        command
            .current_dir(folder.path())
            .env("HOME", folder.path())
            .args(["-logtostderr=true", "server", "-filer", "-s3"])
            .arg(format!("-dir={}", data.display()))
            .arg(format!("-ip={host}"))
            .args(["-s3.port.iceberg=0", "-s3.port.lance=0"])
            .args(["-master.telemetry=false", "-master.volumeSizeLimitMB=64"]);
        for (option, port) in PORTS.into_iter().zip(ports) {
            command.arg(format!("-{option}={port}"));
        }
        for part in ["s3", "filer"] {
            let socket = folder.path().join(format!("{part}.sock"));
            command.arg(format!("-{part}.localSocket={}", socket.display()));
        }
        let sockets = ["s3", "filer", "master", "volume"].into_iter();
        let sockets = sockets.zip([ports[1], ports[3], ports[5], ports[7]]);
        let sockets = sockets.map(|(part, port)| format!("/tmp/seaweedfs-{part}-grpc-{port}.sock"));
        let mut bucket = Self {
            sockets: sockets.map(PathBuf::from).collect(),
            server: Process::start(command),
            address: SocketAddr::new(host, ports[0]),
            _folder: folder,
        };
        eventually("a bucket", || {
            assert!(bucket.server.is_running(), "{}", bucket.server.stderr());
            bucket.create().then_some(())
        });
        bucket
    }

    /// The URL of a prefix in the bucket.
    pub fn url(&self, prefix: &str) -> String {
        format!("s3://{NAME}/{prefix}")
    }

    /// The environment variables of a process that uses the bucket.
    pub fn environment(&self) -> [(&'static str, String); 4] {
        Self::environment_at(self.address)
    }

    /// The environment variables of a process that reaches a bucket at `address`, which may be that of a relay.
    pub fn environment_at(address: SocketAddr) -> [(&'static str, String); 4] {
        [
            ("AWS_ENDPOINT_URL", format!("http://{address}")),
            ("AWS_ALLOW_HTTP", "true".to_owned()),
            ("AWS_REGION", "us-east-1".to_owned()),
            ("AWS_SKIP_SIGNATURE", "true".to_owned()),
        ]
    }

    /// The bytes of an object, if it exists.
    pub fn object(&self, path: &str) -> Option<Vec<u8>> {
        self.get(&format!("/{NAME}/{path}"))
    }

    /// The objects below a prefix, by the rest of their names. At most 1000.
    pub fn objects(&self, prefix: &str) -> BTreeMap<String, Vec<u8>> {
        let prefix = format!("{prefix}/");
        let listed = self.get(&format!("/{NAME}?list-type=2&prefix={prefix}"));
        let listed = String::from_utf8(listed.unwrap()).unwrap();
        let mut objects = BTreeMap::new();
        for rest in listed.split("<Key>").skip(1) {
            let (name, _) = rest.split_once("</Key>").unwrap();
            let content = self.object(name).unwrap();
            objects.insert(name.strip_prefix(&prefix).unwrap().to_owned(), content);
        }
        objects
    }

    /// The body of the answer to a GET request, unless nothing is at the path.
    fn get(&self, path: &str) -> Option<Vec<u8>> {
        let mut stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(SOON)).unwrap();
        // The answer to HTTP/1.0 has no chunks, and ends with the connection.
        write!(
            stream,
            "GET {path} HTTP/1.0\r\nHost: {}\r\n\r\n",
            self.address
        )
        .unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        let end = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n");
        let body = answer.split_off(end.unwrap() + 4);
        let head = String::from_utf8(answer).unwrap();
        match head.split(' ').nth(1) {
            Some("200") => Some(body),
            Some("404") => None,
            _ => panic!("{path}: {head}"),
        }
    }

    /// From now on, the server accepts requests and does not answer them.
    pub fn stall(&self) {
        self.server.signal("STOP");
    }

    /// The server answers again, beginning with the requests that it accepted.
    pub fn restore(&self) {
        self.server.signal("CONT");
    }

    /// Creates the bucket; `false` while the server starts.
    fn create(&self) -> bool {
        let request = format!(
            "PUT /{NAME} HTTP/1.1\r\nHost: {}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
            self.address
        );
        let mut answer = String::new();
        let called = TcpStream::connect(self.address).and_then(|mut stream| {
            stream.write_all(request.as_bytes())?;
            stream.read_to_string(&mut answer)
        });
        called.is_ok() && answer.starts_with("HTTP/1.1 200")
    }
}

impl Drop for Bucket {
    fn drop(&mut self) {
        for socket in &self.sockets {
            // It may not have been made.
            let _ = std::fs::remove_file(socket);
        }
    }
}
