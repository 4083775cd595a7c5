//! How the run service stops.

use proto::runs::v1::RunState;
use tokio::net::TcpStream;
use tokio_stream::{StreamExt, pending};
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};
use tonic_reflection::pb::v1::{
    ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
    server_reflection_request::MessageRequest,
};

use super::{ENDLESS, Trainer, all, ended, wait_for_a_step};

#[tokio::test]
async fn sigterm_stops_the_running_run_tells_its_watcher_and_exits_with_0() {
    let mut trainer = Trainer::start().await;
    let run = trainer.submit("a", trainer.config(ENDLESS)).await.unwrap();
    let mut events = trainer.watch(&run).await;
    wait_for_a_step(&mut events).await;
    trainer.process.signal("TERM");
    let (state, reason) = ended(&all(events).await);
    assert_eq!(state, RunState::Queued);
    assert!(
        reason.contains("resumes when the trainer restarts"),
        "{reason}"
    );
    drop(trainer.client);
    assert!(trainer.process.wait().success());
}

/// The service stops at once although draining may take an hour.
#[tokio::test]
async fn open_streams_and_idle_connections_do_not_delay_the_stop() {
    let settings = [
        "shutdown.drain_seconds=3600",
        "grpc.read_timeout_seconds=3600",
    ];
    let mut trainer = Trainer::start_with(&settings).await;
    let channel = || async {
        let endpoint = server::grpc::endpoint(&trainer.grpc.to_string()).unwrap();
        endpoint.connect().await.unwrap()
    };
    let ask = ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::ListServices(String::new())),
    };
    let asks = tokio_stream::once(ask).chain(pending());
    let mut reflection = ServerReflectionClient::new(channel().await);
    let answers = reflection.server_reflection_info(asks).await;
    let mut answers = answers.unwrap().into_inner();
    answers.message().await.unwrap().expect("an answer");
    let mut watches = Vec::new();
    for service in ["", "no.such.Service"] {
        let service = service.to_owned();
        let watch = HealthClient::new(channel().await)
            .watch(HealthCheckRequest { service })
            .await;
        let mut watch = watch.unwrap().into_inner();
        watch.message().await.unwrap().expect("a status");
        watches.push(watch);
    }
    let silent = TcpStream::connect(trainer.grpc).await.unwrap();
    let connected = channel().await;
    let running = trainer.submit("a", trainer.config(ENDLESS)).await.unwrap();
    let mut events = trainer.watch(&running).await;
    wait_for_a_step(&mut events).await;
    let waiting = trainer.submit("b", trainer.config(1)).await.unwrap();
    let mut quiet = trainer.watch(&waiting).await;
    quiet.message().await.unwrap().expect("its state");

    trainer.process.signal("TERM");
    assert_eq!(ended(&all(events).await).0, RunState::Queued);
    all(quiet).await;
    for mut watch in watches {
        while watch.message().await.unwrap().is_some() {}
    }
    assert!(answers.message().await.unwrap().is_none());
    let status = trainer.process.wait();
    assert!(status.success(), "{}", trainer.process.stderr());
    drop((silent, connected, reflection));
}
