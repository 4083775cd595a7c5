use std::{io::Write, net::SocketAddr, sync::Arc, time::Duration};

use futures::{FutureExt, future::BoxFuture};
use tokio::{
    io::AsyncWriteExt,
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    task::JoinHandle,
    time::timeout,
};
use tonic::{Code, Status, transport::Channel};
use tonic_health::pb::{
    HealthCheckRequest, HealthCheckResponse,
    health_client::HealthClient,
    health_server::{Health, HealthServer},
};
use tonic_types::StatusExt;

use super::*;
use crate::{
    grpc,
    http2_frames::{self, END_HEADERS, END_STREAM, Kind, call_headers, frame},
    listen::{ArrivalLimit, TimedUnit},
};

/// Longer than any step of these tests takes; only a hang exceeds it.
const PATIENCE: Duration = Duration::from_secs(60);

const WATCH: &str = "/grpc.health.v1.Health/Watch";

/// A service whose checks of `slow` wait, and whose watches never answer.
#[derive(Clone)]
struct Work {
    begun: Arc<Semaphore>,
    finish: Arc<Semaphore>,
}

#[tonic::async_trait]
impl Health for Work {
    async fn check(
        &self,
        request: tonic::Request<HealthCheckRequest>,
    ) -> Result<tonic::Response<HealthCheckResponse>, Status> {
        if request.get_ref().service == "slow" {
            self.begun.add_permits(1);
            self.finish.acquire().await.unwrap().forget();
        }
        Ok(tonic::Response::new(HealthCheckResponse::default()))
    }

    type WatchStream = stream::Pending<Result<HealthCheckResponse, Status>>;

    async fn watch(
        &self,
        _: tonic::Request<HealthCheckRequest>,
    ) -> Result<tonic::Response<Self::WatchStream>, Status> {
        self.begun.add_permits(1);
        Ok(tonic::Response::new(stream::pending()))
    }
}

struct Scene {
    address: SocketAddr,
    work: Work,
    stop: CancellationToken,
    server: JoinHandle<()>,
}

impl Scene {
    async fn start(limit: usize) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let work = Work {
            begun: Arc::new(Semaphore::new(0)),
            finish: Arc::new(Semaphore::new(0)),
        };
        let stop = CancellationToken::new();
        let arrival =
            ArrivalLimit::new(PATIENCE * 10, &[(WATCH, TimedUnit::Message)], stop.clone());
        let router = grpc::server()
            .layer(arrival)
            .add_service(HealthServer::new(work.clone()));
        let listener = Listener::new(listener, "grpc", None);
        let server = tokio::spawn(serve(listener, router, limit, || (), stop.clone()));
        Self {
            address,
            work,
            stop,
            server,
        }
    }

    async fn connect(&self) -> HealthClient<Channel> {
        let endpoint = grpc::endpoint(&self.address.to_string()).unwrap();
        HealthClient::new(grpc::connect(&endpoint).await.unwrap())
    }

    /// Starts a call and waits until the service handles it. Returns the call and its connection.
    async fn begin(
        &self,
    ) -> (
        HealthClient<Channel>,
        BoxFuture<'static, Result<(), Status>>,
    ) {
        let client = self.connect().await;
        let call = tokio::spawn({
            let mut client = client.clone();
            async move { check(&mut client, "slow").await }
        });
        let begun = timeout(PATIENCE, self.work.begun.acquire()).await;
        begun.expect("it begins").unwrap().forget();
        (client, call.map(|ended| ended.unwrap()).boxed())
    }
}

async fn check(client: &mut HealthClient<Channel>, service: &str) -> Result<(), Status> {
    let request = HealthCheckRequest {
        service: service.to_owned(),
    };
    let answer = timeout(PATIENCE, client.check(request)).await;
    answer.expect("it is answered").map(drop)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_takes_as_long_as_the_work() {
    let scene = Scene::start(64).await;
    let silent = TcpStream::connect(scene.address).await.unwrap();
    let mut half = TcpStream::connect(scene.address).await.unwrap();
    half.write_all(b"PRI * HTTP/2.0").await.unwrap();
    let mut idle = scene.connect().await;
    check(&mut idle, "").await.unwrap();
    let (_client, call) = scene.begin().await;
    scene.stop.cancel();
    // The other connections neither end the call nor delay the stop.
    assert!(
        timeout(Duration::from_secs(2), async {
            while !scene.server.is_finished() {
                tokio::task::yield_now().await
            }
        })
        .await
        .is_err()
    );
    scene.work.finish.add_permits(1);
    call.await.expect("it is answered");
    let ended = timeout(PATIENCE, scene.server).await;
    ended.expect("the server ends").unwrap();
    drop((silent, half, idle));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_port_closes_idle_connections_and_keeps_calls() {
    let scene = Scene::start(2).await;
    let (_client, call) = scene.begin().await;
    let mut before = None;
    for _ in 0..40 {
        let mut client = scene.connect().await;
        check(&mut client, "").await.unwrap();
        if let Some(mut before) = before.replace(client) {
            // After the GOAWAY, the client reconnects, at once or after it lost a call that crossed the
            // GOAWAY.
            if let Err(lost) = check(&mut before, "").await {
                assert!(grpc::is_away(&lost), "{lost:?}");
                check(&mut before, "").await.unwrap();
            }
        }
    }
    scene.work.finish.add_permits(1);
    call.await.expect("it is answered");
}

#[tokio::test(flavor = "multi_thread")]
async fn health_checks_are_answered_on_a_port_full_of_work() {
    let scene = Scene::start(2).await;
    let (_first, one) = scene.begin().await;
    let (_second, other) = scene.begin().await;
    let mut probes = Vec::new();
    for _ in 0..40 {
        let mut client = scene.connect().await;
        check(&mut client, "").await.unwrap();
        probes.push(client);
    }
    let mut client = scene.connect().await;
    let refused = client.watch(HealthCheckRequest::default()).await;
    let refused = refused.map(drop).unwrap_err();
    assert_eq!(refused.code(), Code::Unavailable, "{refused}");
    let info = refused.get_details_error_info().unwrap();
    assert_eq!(info.reason, "PORT_FULL");
    scene.work.finish.add_permits(2);
    one.await.expect("it is answered");
    other.await.expect("it is answered");
}

/// Calls that are cancelled before the blocked server reads them, as when the deadlines of all calls of a
/// proxy expire.
#[tokio::test]
async fn cancelled_calls_do_not_end_the_connection_of_others() {
    for (cancelled, expected) in [
        (60, Kind::Headers),
        (1_000, Kind::Headers),
        // A rapid reset.
        (1_100, Kind::GoAway),
    ] {
        let scene = Scene::start(64).await;
        let mut bytes = http2_frames::PREFACE.to_vec();
        bytes.extend(frame(Kind::Settings, 0, 0, &[]));
        // Clients number their streams 1, 3, 5, …
        for stream in (1..).step_by(2).take(cancelled) {
            let headers = call_headers("/");
            bytes.extend(frame(Kind::Headers, END_HEADERS, stream, &headers));
            const CANCEL: u32 = 8;
            bytes.extend(frame(Kind::Reset, 0, stream, &CANCEL.to_be_bytes()));
        }
        let patient = 2 * cancelled as u32 + 1;
        let headers = call_headers("/grpc.health.v1.Health/Check");
        bytes.extend(frame(Kind::Headers, END_HEADERS, patient, &headers));
        // An empty message.
        bytes.extend(frame(Kind::Data, END_STREAM, patient, &[0; 5]));

        // One thread, and no `await`: all bytes have arrived when the server runs again.
        let mut client = std::net::TcpStream::connect(scene.address).unwrap();
        client.write_all(&bytes).unwrap();
        client.set_nonblocking(true).unwrap();
        let mut client = TcpStream::from_std(client).unwrap();
        let answered = timeout(PATIENCE, async {
            loop {
                match http2_frames::next(&mut client).await {
                    (Some(Kind::GoAway), _) => return Kind::GoAway,
                    (Some(Kind::Headers), stream) if stream == patient => return Kind::Headers,
                    _ => {}
                }
            }
        });
        let answered = answered.await.expect("it is answered");
        assert_eq!(answered, expected, "{cancelled}");
    }
}
