//! Any bytes on a connection are answered or close it, and the next connection is served.

use axum::{body::Bytes, routing::post};
use proptest::{collection::vec, prelude::*, test_runner::TestRunner};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    runtime::Runtime,
};

use super::*;
use test_support::damage::{cases, foreign};

/// Longer than any step of these tests takes; only a hang exceeds it.
const PATIENCE: Duration = Duration::from_secs(60);

/// A client's behaviour after its request.
#[derive(Clone, Copy)]
enum Then {
    Waits,
    /// It closes its write half.
    HalfCloses,
}

/// Calls `check` with a function that sends bytes to an echo server and returns all bytes received until
/// the connection ends.
fn with_server(check: impl FnOnce(&dyn Fn(&[u8], Then) -> Vec<u8>)) {
    let runtime = Runtime::new().unwrap();
    let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
    let address = listener.local_addr().unwrap();
    let router = Router::new().route("/", post(async |body: Bytes| body));
    let limits = ConnectionLimits {
        connections: 1,
        header_time: 2 * PATIENCE,
    };
    let stop = CancellationToken::new();
    let listener = Listener::new(listener, "http", None);
    let server = runtime.spawn(serve(listener, router, limits, stop.clone()));
    check(&|bytes, then| {
        runtime.block_on(async {
            let exchange = async {
                let mut stream = TcpStream::connect(address).await.unwrap();
                // The server may have closed the connection already.
                let _ = stream.write_all(bytes).await;
                if let Then::HalfCloses = then {
                    let _ = stream.shutdown().await;
                }
                let mut answer = Vec::new();
                let _ = stream.read_to_end(&mut answer).await;
                answer
            };
            let answer = tokio::time::timeout(PATIENCE, exchange).await;
            answer.expect("the connection ends")
        })
    });
    stop.cancel();
    runtime.block_on(server).unwrap();
}

fn chunked(body: &[u8], pieces: &[usize]) -> Vec<u8> {
    let mut request =
        b"POST / HTTP/1.1\r\nhost: h\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\n"
            .to_vec();
    let mut remaining = body;
    for piece in pieces.iter().cycle() {
        let (chunk, later) = remaining.split_at(remaining.len().min(*piece));
        request.extend(format!("{:x}\r\n", chunk.len()).bytes());
        request.extend(chunk);
        request.extend(b"\r\n");
        remaining = later;
        if chunk.is_empty() {
            return request;
        }
    }
    request
}

#[test]
fn foreign_requests_are_answered_or_closed() {
    let length = b"POST / HTTP/1.1\r\nhost: h\r\ncontent-length: 4\r\n\r\nbody".to_vec();
    let valid = vec![chunked(b"some body", &[4]), length.repeat(2)];
    with_server(|ask| {
        let mut runner = TestRunner::new(cases(150));
        let outcome = runner.run(&foreign(valid), |request| {
            let answer = ask(&request, Then::HalfCloses);
            prop_assert!(
                answer.is_empty() || answer.starts_with(b"HTTP/1."),
                "{:?}",
                answer
            );
            Ok(())
        });
        outcome.unwrap_or_else(|failure| panic!("{failure}"));
        let answer = ask(&chunked(b"still here", &[3]), Then::Waits);
        assert!(answer.ends_with(b"still here"), "{answer:?}");
    });
}

#[test]
fn bodies_in_any_chunks_arrive_whole() {
    let bodies = (vec(any::<u8>(), 0..3000), vec(1..700usize, 1..5));
    with_server(|ask| {
        let mut runner = TestRunner::new(cases(50));
        let outcome = runner.run(&bodies, |(body, pieces)| {
            let answer = ask(&chunked(&body, &pieces), Then::Waits);
            prop_assert!(answer.starts_with(b"HTTP/1.1 200"), "{:?}", answer);
            prop_assert!(answer.ends_with(&body));
            Ok(())
        });
        outcome.unwrap_or_else(|failure| panic!("{failure}"));
    });
}
