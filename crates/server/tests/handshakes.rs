//! Clients that begin a TLS handshake and never finish it.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use server::{
    grpc,
    health::Health,
    health_check::check_health,
    listen::{PortAccess, http2},
    security::{AuthConfig, ListenConfig, Rules, Scope, Security, tls::ServerTls},
};
use test_support::certificates::Keys;
use tokio::{io::AsyncReadExt, net::TcpStream, time::timeout};
use tokio_util::sync::CancellationToken;

/// More than the limit of concurrent handshakes.
const SILENT: usize = 300;
const PATIENCE: Duration = Duration::from_secs(60);

/// Starts a server that answers health checks over TLS.
async fn serve(keys: &Keys) -> SocketAddr {
    let tls = ServerTls {
        certificate: keys.path("server.pem"),
        key: keys.path("server.key"),
        client_ca: None,
    };
    let port = ListenConfig {
        table: "grpc",
        listen: "127.0.0.1:0".parse().expect("an address"),
        access: PortAccess::ThisMachineOnly,
    };
    let rules = Rules::grpc(&[Scope::Predict], &[]);
    let security = Security::load(Some(&tls), &AuthConfig::default()).expect("the files are good");
    let port = security.bind(port, rules).await.expect("a free port");
    let (reporter, health) = Health::new(&[]);
    reporter.set_serving(true);
    let server = grpc::server().layer(port.layer).add_service(health);
    let never = CancellationToken::new();
    tokio::spawn(http2::serve(
        port.listener,
        server,
        1024,
        move || reporter.clone(),
        never,
    ));
    port.address
}

#[tokio::test(flavor = "multi_thread")]
async fn silent_clients_delay_no_other_client_and_are_dropped() {
    let keys = Keys::new();
    let address = serve(&keys).await;
    let client = keys.client("ca", None, None);
    let host_port = address.to_string();
    let check = || check_health(&client, &host_port, Duration::from_secs(5));

    let mut few = Vec::new();
    for _ in 0..20 {
        few.push(TcpStream::connect(address).await.expect("it is accepted"));
    }
    assert_eq!(check().await, Ok(()), "a few slow clients delay no other");

    let mut many = few;
    while many.len() < SILENT {
        many.push(TcpStream::connect(address).await.expect("it is accepted"));
    }
    let began = Instant::now();
    while check().await.is_err() {
        assert!(began.elapsed() < PATIENCE, "no client can connect any more");
    }
    for mut silent in many {
        let read = timeout(PATIENCE, silent.read(&mut [0; 1])).await;
        let ended = matches!(read.expect("it is dropped"), Ok(0) | Err(_));
        assert!(ended, "a silent client was answered");
    }
}
