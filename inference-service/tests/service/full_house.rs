//! Ports at their limit of connections.

use std::{
    io::{Read, Write},
    net::{Shutdown, TcpStream},
};

use crate::support::{Artifact, Connection, MODEL, PATIENCE, Service, ServiceOptions, publish};

fn connect(service: &Service, port: &str, request: &str) -> TcpStream {
    let mut client = TcpStream::connect(service.address(port)).expect("the port is open");
    let patience = Some(PATIENCE);
    client.set_read_timeout(patience).expect("it can be set");
    client.write_all(request.as_bytes()).expect("it is sent");
    client
}

fn answer(mut client: TcpStream) -> String {
    let mut answer = String::new();
    client.read_to_string(&mut answer).expect("it is answered");
    answer
}

#[tokio::test]
async fn idle_connections_are_closed_and_the_log_warns() {
    let options = ServiceOptions {
        set: &["http.max_connections=4", "http.read_timeout_seconds=3600"],
        ..ServiceOptions::default()
    };
    let service = Service::start(&options);
    publish(&service, &Artifact::new(1)).await;
    let paths = [
        ("http", "/v2/health/ready", 4),
        ("http", "/v2", 4),
        ("metrics", "/metrics", 64),
    ];
    let mut idle = Vec::new();
    for (port, path, limit) in paths {
        for _ in 0..limit + 40 {
            let mut connection = Connection::to(&service.address(port));
            let response = connection.call(&format!("GET {path}"), &[], b"");
            assert_eq!(response.status, 200, "{path}");
            idle.push(connection);
        }
    }
    let log = service
        .log_once(|log| log.contains("too many connections") && log.contains("port=\"http\""));
    assert!(log.matches("too many connections").count() < 20, "{log}");
}

#[tokio::test]
async fn a_request_before_a_half_close_is_answered_at_every_port() {
    let service = Service::start(&ServiceOptions::default());
    publish(&service, &Artifact::new(1)).await;
    let get = |path: &str| format!("GET {path} HTTP/1.1\r\nhost: test\r\n\r\n");
    let values = vec!["0"; 64].join(",");
    let body = format!(
        "{{\"inputs\":[{{\"name\":\"input\",\"shape\":[1,1,8,8],\"datatype\":\"FP32\",\
         \"data\":[{values}]}}]}}"
    );
    let infer = format!(
        "POST /v2/models/{MODEL}/infer HTTP/1.1\r\nhost: test\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    for _ in 0..20 {
        for (port, request) in [
            ("http", &get("/v2/health/live")),
            ("http", &get("/v2/health/ready")),
            ("http", &infer),
            ("metrics", &get("/metrics")),
        ] {
            let client = connect(&service, port, request);
            client.shutdown(Shutdown::Write).expect("it is half closed");
            let answer = answer(client);
            assert!(answer.starts_with("HTTP/1.1 "), "{port}: {answer:?}");
            assert!(!answer.starts_with("HTTP/1.1 5"), "{port}: {answer:?}");
        }
    }
}
