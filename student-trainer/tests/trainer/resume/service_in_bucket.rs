//! Run services whose queue and runs are in a bucket of a real object store: killed and continued on another machine,
//! refused while another service lives, and without their store for a while.

use std::{
    fs,
    process::Command,
    time::{Duration, Instant},
};

use proto::runs::v1::{CancelRunRequest, RunState, WatchRunRequest, watch_run_response::Event};
use test_support::{SOON, eventually};
use tonic::Code;

use super::{
    buckets::{BucketScene, LONG},
    scene::{fixed_address, stderr},
    service::Service,
};

/// Longer than the test.
const ENDLESS: &str = "phases[0].epochs=5000";

/// The service of `machine`.
fn command(scene: &BucketScene, machine: &str, address: &str) -> Command {
    let runs = scene.bucket.url("runs");
    let mut command = Service::command(&scene.scene, &runs, address);
    let scratch = format!("bucket.scratch={}", scene.scene.path(machine).display());
    for setting in [&*scratch, "bucket.lease_seconds=4"] {
        command.args(["--set", setting]);
    }
    command.envs(scene.bucket.environment());
    command
}

async fn start(scene: &BucketScene, machine: &str) -> Service {
    let address = fixed_address();
    Service::of(command(scene, machine, &address), &address).await
}

/// Checks that a service of `machine` is refused.
fn check_refused(scene: &BucketScene, machine: &str, reason: &str) {
    let refused = command(scene, machine, &fixed_address()).output().unwrap();
    let said = stderr(&refused);
    assert_eq!(refused.status.code(), Some(1), "{said}");
    assert!(
        said.contains(reason) && said.contains(&scene.url(".queue")),
        "{said}"
    );
}

fn config(scene: &BucketScene) -> String {
    fs::read_to_string(scene.scene.path("run.toml")).unwrap()
}

/// Waits until the runs `ids` have succeeded.
async fn wait_for_success(service: &mut Service, ids: &[&str]) {
    let deadline = Instant::now() + 2 * SOON;
    loop {
        let mut states = service.states().await;
        states.retain(|(id, _)| ids.contains(&&**id));
        assert_eq!(states.len(), ids.len());
        if states
            .iter()
            .all(|(_, state)| *state == RunState::Succeeded)
        {
            return;
        }
        let has_failed = states.iter().any(|(_, state)| *state == RunState::Failed);
        assert!(
            !has_failed && Instant::now() < deadline,
            "{states:?}: {}",
            service.process.stderr()
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_on_another_machine_continues_the_queue_of_a_killed_one_with_the_same_bytes() {
    let scene = BucketScene::new();
    let undisturbed = scene.scene.finish("undisturbed", &[], &[LONG]);
    let other = scene.scene.finish("other", &[], &[LONG, "seed=2"]);
    assert_ne!(undisturbed, other, "another seed must give another student");

    let mut first = start(&scene, "first").await;
    for id in ["a", "a-2"] {
        let submitted = first.try_submit("a", config(&scene), &[LONG]).await;
        assert_eq!(submitted.unwrap(), id);
    }
    scene.wait_for_checkpoint("a", &mut first.process);
    first.process.signal("KILL");
    first.process.wait();
    let record = scene.record("a").unwrap();
    assert!(record["files"].get("manifest.json").is_none(), "too late");
    assert!(scene.record(".queue").unwrap().get("lease").is_some());
    fs::remove_dir_all(scene.scene.path("first")).unwrap();

    let mut second = start(&scene, "second").await;
    let known = second.states().await.into_iter().map(|(id, _)| id);
    assert_eq!(known.collect::<Vec<_>>(), ["a", "a-2"]);
    wait_for_success(&mut second, &["a", "a-2"]).await;
    let said = second.process.stderr();
    for part in ["downloads the run from", "resumes from step"] {
        assert!(said.contains(part), "{part} is not in: {said}");
    }
    for id in ["a", "a-2"] {
        assert_eq!(scene.fetched(id), undisturbed, "{id}");
    }
    second.process.signal("TERM");
    let ended = second.process.wait();
    assert!(ended.success(), "{}", second.process.stderr());
    assert!(scene.record(".queue").unwrap().get("lease").is_none());

    // A later service knows the ended runs and their events, and no name is given twice.
    let mut third = start(&scene, "third").await;
    wait_for_success(&mut third, &["a", "a-2"]).await;
    let run_id = "a".to_owned();
    let watched = third.client.watch_run(WatchRunRequest { run_id }).await;
    let mut events = watched.unwrap().into_inner();
    let mut epochs = 0;
    while let Some(response) = events.message().await.unwrap() {
        epochs += usize::from(matches!(response.event, Some(Event::EpochFinished(_))));
    }
    let is_epoch = |event: &&serde_json::Value| event["event"] == "epoch_finished";
    assert_eq!(epochs, undisturbed.events.iter().filter(is_epoch).count());
    assert!(epochs > 20, "{epochs}");
    let submitted = third.try_submit("a", config(&scene), &[LONG]).await;
    assert_eq!(submitted.unwrap(), "a-3");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_keeps_others_away_and_outlasts_a_store_that_does_not_answer() {
    let scene = BucketScene::new();
    let undisturbed = scene.scene.finish("undisturbed", &[], &[LONG]);
    let mut service = start(&scene, "first").await;
    let submitted = service.try_submit("a", config(&scene), &[ENDLESS]).await;
    assert_eq!(submitted.unwrap(), "a");
    scene.wait_for_checkpoint("a", &mut service.process);
    check_refused(&scene, "second", "another trainer (process ");
    check_refused(&scene, "first", "another trainer on this machine uses");

    scene.bucket.stall();
    let refused = service.try_submit("b", config(&scene), &[LONG]).await;
    let refused = refused.unwrap_err();
    assert_eq!(refused.code(), Code::Unavailable, "{refused}");
    let reason = "the bucket of the runs did not take the run";
    assert!(refused.message().contains(reason), "{refused}");
    let expected = [("a".to_owned(), RunState::Running)];
    assert_eq!(service.states().await, expected);
    let log = scene.folder("a", "first").join("metrics.jsonl");
    let length = || fs::metadata(&log).unwrap().len();
    let before = length();
    eventually("further events of the run", || {
        (length() > before).then_some(())
    });

    scene.bucket.restore();
    let deadline = Instant::now() + SOON;
    let id = loop {
        match service.try_submit("b", config(&scene), &[LONG]).await {
            Ok(id) => break id,
            Err(error) => assert!(Instant::now() < deadline, "{error}"),
        }
    };
    let run_id = "a".to_owned();
    let cancelled = service.client.cancel_run(CancelRunRequest { run_id });
    cancelled.await.unwrap();
    wait_for_success(&mut service, &[&id]).await;
    assert_eq!(scene.fetched(&id), undisturbed);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_was_replaced_while_it_slept_ends_and_the_other_one_finishes_its_run() {
    let scene = BucketScene::new();
    let undisturbed = scene.scene.finish("undisturbed", &[], &[LONG]);
    let mut first = start(&scene, "first").await;
    let submitted = first.try_submit("a", config(&scene), &[LONG]).await;
    assert_eq!(submitted.unwrap(), "a");
    scene.wait_for_checkpoint("a", &mut first.process);
    first.process.signal("STOP");
    let record = scene.record("a").unwrap();
    assert!(record["files"].get("manifest.json").is_none(), "too late");

    let mut second = start(&scene, "second").await;
    first.process.signal("CONT");
    assert_eq!(first.process.wait().code(), Some(1));
    let said = first.process.stderr();
    assert!(said.contains("has taken over the runs in s3://"), "{said}");
    wait_for_success(&mut second, &["a"]).await;
    assert_eq!(scene.fetched("a"), undisturbed);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_waiting_run_takes_what_is_finished_in_its_place_only_with_its_configuration() {
    let scene = BucketScene::new();
    let mut service = start(&scene, "first").await;
    for (id, setting) in [("a", ENDLESS), ("same", "seed=2"), ("other", "seed=3")] {
        let submitted = service.try_submit(id, config(&scene), &[setting]).await;
        assert_eq!(submitted.unwrap(), id);
    }
    for id in ["same", "other"] {
        let mut trainer = scene.start(id, "second", "4", &["seed=2"]);
        assert!(trainer.wait().success(), "{}", trainer.stderr());
    }
    let run_id = "a".to_owned();
    let cancelled = service.client.cancel_run(CancelRunRequest { run_id });
    cancelled.await.unwrap();

    wait_for_success(&mut service, &["same"]).await;
    let run_id = "other".to_owned();
    let watched = service.client.watch_run(WatchRunRequest { run_id }).await;
    let mut events = watched.unwrap().into_inner();
    let mut last = None;
    while let Some(response) = events.message().await.unwrap() {
        last = response.event;
    }
    let run = match last {
        Some(Event::StateChanged(run)) => run,
        other => panic!("the last event is {other:?}"),
    };
    assert_eq!(run.state(), RunState::Failed);
    for part in [&*scene.url("other"), "another configuration"] {
        assert!(run.reason.contains(part), "{part}: {}", run.reason);
    }
}
