//! How the run service stops.

use proto::runs::v1::RunState;
use test_support::open_streams::OpenStreams;

use super::{ENDLESS, Trainer, all, ended, wait_for_a_step};

#[tokio::test(flavor = "multi_thread")]
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
#[tokio::test(flavor = "multi_thread")]
async fn open_streams_and_idle_connections_do_not_delay_the_stop() {
    let settings = [
        "shutdown.drain_seconds=3600",
        "grpc.read_timeout_seconds=3600",
    ];
    let mut trainer = Trainer::start_with(&settings).await;
    let mut streams = OpenStreams::open(trainer.grpc, &[]).await;
    let running = trainer.submit("a", trainer.config(ENDLESS)).await.unwrap();
    let mut events = trainer.watch(&running).await;
    wait_for_a_step(&mut events).await;
    let waiting = trainer.submit("b", trainer.config(1)).await.unwrap();
    let mut quiet = trainer.watch(&waiting).await;
    quiet.message().await.unwrap().expect("its state");

    trainer.process.signal("TERM");
    assert_eq!(ended(&all(events).await).0, RunState::Queued);
    all(quiet).await;
    streams.until_ended().await;
    let status = trainer.process.wait();
    assert!(status.success(), "{}", trainer.process.stderr());
    drop(streams);
}
