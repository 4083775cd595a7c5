use std::{
    fs,
    sync::mpsc::{self, Receiver},
};

use common::digest::Sha256;
use futures::{StreamExt, executor::block_on};
use proto::runs::v1::{
    CancelRunRequest, GetRunRequest, ListRunsRequest, RunState, run_service_server::RunService,
    watch_run_response::Event,
};
use serde_json::json;
use test_support::SOON;
use tokio::runtime::Builder;
use tonic::Request;

use super::*;
use crate::{config::AllowedFolders, service::grpc::RunServer};

const LIMITS: QueueConfig = QueueConfig {
    waiting_runs: 2,
    remembered_runs: 1,
};

/// A queue whose runs act as their configuration says: `done`, `fail`, `withhold`, `panic`, or `wait` until they are
/// cancelled.
struct Fixture {
    queue: RunQueue,
    /// Receives (configuration, folder) of each run that starts.
    begun: Receiver<(String, PathBuf)>,
}

fn start(runs: &Path) -> Fixture {
    let (sender, begun) = mpsc::channel();
    let work: ExecuteRun = Box::new(move |assignment| {
        let config = assignment.config_toml.to_owned();
        sender
            .send((config.clone(), assignment.output.folder().to_owned()))
            .unwrap();
        assignment.events.send(RunEvent::Notice {
            text: config.clone(),
        });
        match &*config {
            "done" => RunResult::Succeeded,
            "fail" => RunResult::Failed("no data".to_owned()),
            "withhold" => RunResult::Withheld("too slow".to_owned()),
            "panic" => panic!("bug {}", 7),
            "wait" => {
                block_on(assignment.cancel.cancelled());
                RunResult::Stopped
            }
            other => panic!("{other}"),
        }
    });
    let home = RunsHome::Folder(runs.to_owned());
    let queue = RunQueue::start(home, LIMITS, work).unwrap();
    Fixture { queue, begun }
}

impl Fixture {
    fn submit(&self, name: &str, config: &str) -> Arc<QueuedRun> {
        self.queue.submit(name, config.to_owned()).unwrap()
    }

    /// Submits a run that waits, and returns after it has started.
    fn occupy(&self) -> Arc<QueuedRun> {
        let record = self.submit("a", "wait");
        self.begun.recv().unwrap();
        record
    }
}

/// Waits for the end of a run's events. Returns all its states, and the reason of the last.
fn states(record: &QueuedRun) -> (Vec<RunState>, String) {
    let events: Vec<Event> = block_on(record.follow().collect());
    let states = events.iter().filter_map(|event| match event {
        Event::StateChanged(run) => Some(run.state()),
        _ => None,
    });
    (states.collect(), record.to_proto().reason)
}

#[test]
fn runs_are_done_in_order_each_in_a_folder_of_its_own() {
    let runs = tempfile::tempdir().unwrap();
    let fixture = start(runs.path());
    let first = fixture.submit("a", "done");
    let second = fixture.submit("a", "done");
    for record in [&first, &second] {
        let expected = [RunState::Queued, RunState::Running, RunState::Succeeded];
        assert_eq!(states(record), (expected.to_vec(), String::new()));
    }
    let folders: Vec<_> = fixture.begun.try_iter().map(|(_, folder)| folder).collect();
    assert_eq!(folders, [runs.path().join("a"), runs.path().join("a-2")]);
    assert_eq!(second.id().to_string(), "a-2");
}

#[test]
fn a_failure_or_a_panic_is_that_runs_alone() {
    let runs = tempfile::tempdir().unwrap();
    let fixture = start(runs.path());
    let failing = fixture.submit("a", "fail");
    assert_eq!(states(&failing).0.last(), Some(&RunState::Failed));
    assert_eq!(states(&failing).1, "no data");
    let panicking = fixture.submit("b", "panic");
    assert_eq!(states(&panicking).0.last(), Some(&RunState::Failed));
    assert_eq!(states(&panicking).1, "internal error: bug 7");
    let fine = fixture.submit("c", "done");
    assert_eq!(states(&fine).0.last(), Some(&RunState::Succeeded));
}

#[test]
fn a_withheld_run_has_failed_in_a_way_of_its_own() {
    let runs = tempfile::tempdir().unwrap();
    let fixture = start(runs.path());
    let withheld = fixture.submit("a", "withhold");
    let (seen, reason) = states(&withheld);
    assert_eq!(
        (seen.last(), &*reason),
        (Some(&RunState::Failed), "too slow")
    );
    assert!(withheld.to_proto().withheld);
    let resumed = fixture.queue.resume(withheld.id()).unwrap();
    assert!(!resumed.to_proto().withheld || resumed.has_ended());
    assert_eq!(states(&resumed).0.last(), Some(&RunState::Failed));
    let failed = fixture.submit("b", "fail");
    assert_eq!(states(&failed).0.last(), Some(&RunState::Failed));
    assert!(!failed.to_proto().withheld);
}

#[test]
fn waiting_and_running_runs_can_be_cancelled_ended_ones_cannot() {
    let runs = tempfile::tempdir().unwrap();
    let fixture = start(runs.path());
    let running = fixture.occupy();
    let waiting = fixture.submit("b", "done");

    fixture.queue.cancel(waiting.id()).unwrap();
    assert_eq!(states(&waiting).0, [RunState::Queued, RunState::Cancelled]);
    assert!(!runs.path().join("b").exists());

    fixture.queue.cancel(running.id()).unwrap();
    let expected = [RunState::Queued, RunState::Running, RunState::Cancelled];
    let reason = "cancelled on request".to_owned();
    assert_eq!(states(&running), (expected.to_vec(), reason));

    let error = fixture.queue.cancel(running.id()).err().unwrap();
    assert!(error.to_string().contains("RUN_STATE_CANCELLED"), "{error}");
    let error = fixture.queue.cancel(&RunId::new("x")).err().unwrap();
    assert!(error.to_string().contains("no run `x`"), "{error}");
}

#[test]
fn a_run_whose_folder_is_gone_keeps_its_id() {
    let runs = tempfile::tempdir().unwrap();
    let fixture = start(runs.path());
    let running = fixture.occupy();
    let cancelled = fixture.submit("b", "done");
    fixture.queue.cancel(cancelled.id()).unwrap();
    assert!(!runs.path().join("b").exists());

    let next = fixture.submit("b", "done");
    assert_eq!(next.id().to_string(), "b-2");
    fixture.queue.cancel(running.id()).unwrap();
    assert_eq!(states(&next).0.last(), Some(&RunState::Succeeded));
    let known = fixture.queue.get(cancelled.id()).ok().unwrap();
    assert_eq!(known.state(), RunState::Cancelled);
}

#[test]
fn a_closed_queue_cancels_nothing_and_says_so() {
    let runs = tempfile::tempdir().unwrap();
    let fixture = start(runs.path());
    let running = fixture.occupy();
    let waiting = fixture.submit("b", "done");
    fixture.queue.close();
    for record in [&running, &waiting] {
        let refused = fixture.queue.cancel(record.id()).err().unwrap();
        assert!(matches!(refused, RequestError::ShuttingDown), "{refused}");
    }
    block_on(fixture.queue.ended());
    for record in [&running, &waiting] {
        assert_eq!(record.state(), RunState::Queued);
    }
}

#[test]
fn a_call_that_waits_for_the_queue_does_not_delay_other_calls() {
    let runs = tempfile::tempdir().unwrap();
    let fixture = start(runs.path());
    let running = fixture.occupy();
    let waiting = fixture.submit("b", "done");
    let Fixture { queue, begun } = fixture;
    let queue = Arc::new(queue);
    let allowed: AllowedFolders = serde_json::from_value(json!([runs.path()])).unwrap();
    let server = RunServer::new(Arc::new(Arc::clone(&queue).into()), allowed);
    let (sender, waits) = mpsc::channel();
    let calls = async {
        let run_id = waiting.id().to_string();
        let cancel = CancelRunRequest {
            run_id: run_id.clone(),
        };
        let (cancelled, got, listed, ()) = tokio::join!(
            server.cancel_run(Request::new(cancel)),
            server.get_run(Request::new(GetRunRequest { run_id })),
            server.list_runs(Request::new(ListRunsRequest {})),
            async { sender.send(()).unwrap() }
        );
        got.unwrap();
        assert_eq!(listed.unwrap().into_inner().runs.len(), 2);
        cancelled.unwrap().into_inner().run.unwrap().state()
    };
    // A thread that writes a run's file to a slow disk holds this lock.
    let held = queue.shared.lock();
    thread::scope(|scope| {
        // One thread for all calls.
        let runtime = Builder::new_current_thread().build().unwrap();
        let calls = scope.spawn(move || runtime.block_on(calls));
        let all_wait = waits.recv_timeout(SOON);
        drop(held);
        assert_eq!(calls.join().unwrap(), RunState::Cancelled);
        all_wait.expect("one call does not block the thread of the others");
    });
    queue.cancel(running.id()).unwrap();
    drop(begun);
}

#[test]
fn what_waits_and_what_is_remembered_is_bounded() {
    let runs = tempfile::tempdir().unwrap();
    let fixture = start(runs.path());
    let running = fixture.occupy();
    let waiting = [fixture.submit("b", "done"), fixture.submit("c", "done")];
    let refused = fixture.queue.submit("d", "done".to_owned()).err().unwrap();
    assert!(matches!(refused, RequestError::QueueFull { waiting: 2 }));

    fixture.queue.cancel(running.id()).unwrap();
    for record in &waiting {
        assert_eq!(states(record).0.last(), Some(&RunState::Succeeded));
    }
    let newest = fixture.submit("e", "done");
    let known: Vec<String> = fixture
        .queue
        .list()
        .iter()
        .map(|run| run.id().to_string())
        .collect();
    assert_eq!(known, ["c", "e"]);
    assert_eq!(states(&newest).0.last(), Some(&RunState::Succeeded));
    let mut files: Vec<_> = fs::read_dir(runs.path().join(".queue"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    files.sort();
    assert_eq!(files, ["c.json", "e.json"]);
}

#[test]
fn a_cancelled_or_failed_run_can_be_resumed_and_no_other() {
    let runs = tempfile::tempdir().unwrap();
    let fixture = start(runs.path());
    let cancelled = fixture.occupy();
    let error = fixture.queue.resume(cancelled.id()).err().unwrap();
    assert!(error.to_string().contains("RUN_STATE_RUNNING"), "{error}");
    fixture.queue.cancel(cancelled.id()).unwrap();
    assert_eq!(states(&cancelled).0.last(), Some(&RunState::Cancelled));

    let resumed = fixture.queue.resume(cancelled.id()).unwrap();
    let (config, folder) = fixture.begun.recv().unwrap();
    assert_eq!((&*config, folder), ("wait", runs.path().join("a")));
    assert_eq!(fixture.queue.list().len(), 1);
    fixture.queue.cancel(resumed.id()).unwrap();
    let expected = [RunState::Queued, RunState::Running, RunState::Cancelled];
    assert_eq!(states(&resumed).0, expected);

    let done = fixture.submit("b", "done");
    assert_eq!(states(&done).0.last(), Some(&RunState::Succeeded));
    let error = fixture.queue.resume(done.id()).err().unwrap();
    assert!(error.to_string().contains("RUN_STATE_SUCCEEDED"), "{error}");
}

#[test]
fn a_restarted_queue_continues_its_runs() {
    let runs = tempfile::tempdir().unwrap();
    let before = start(runs.path());
    let running = before.occupy();
    let waiting = before.submit("b", "done");
    before.queue.close();
    block_on(before.queue.ended());
    let (seen, reason) = states(&running);
    assert_eq!(
        seen,
        [RunState::Queued, RunState::Running, RunState::Queued]
    );
    assert!(
        reason.contains("resumes when the trainer restarts"),
        "{reason}"
    );
    assert_eq!(states(&waiting).0, [RunState::Queued]);
    let refused = before.queue.submit("c", "done".to_owned()).err().unwrap();
    assert!(matches!(refused, RequestError::ShuttingDown));
    drop((before, running, waiting));

    let after = start(runs.path());
    let (config, folder) = after.begun.recv().unwrap();
    assert_eq!((&*config, folder), ("wait", runs.path().join("a")));
    let [running, waiting] = [after.queue.list()[0].clone(), after.queue.list()[1].clone()];
    after.queue.cancel(running.id()).unwrap();
    assert_eq!(states(&running).0.last(), Some(&RunState::Cancelled));
    let expected = [RunState::Queued, RunState::Running, RunState::Succeeded];
    assert_eq!(states(&waiting).0, expected);
    // A later run has a higher number, so the order is preserved.
    after.submit("c", "done");
    let ids = after
        .queue
        .list()
        .into_iter()
        .map(|run| run.id().to_string());
    assert_eq!(ids.last().unwrap(), "c");
}

#[test]
fn a_killed_services_run_continues_and_an_ended_run_keeps_its_events() {
    let runs = tempfile::tempdir().unwrap();
    let stored = |number, id: &str, state| StoredRun {
        state,
        ..StoredRun::queued(number, &RunId::new(id), id, "done".to_owned())
    };
    {
        let (store, _) = QueueStore::open(runs.path()).unwrap();
        let killed = [
            stored(1, "failed", StoredState::Failed),
            stored(2, "whole", StoredState::Running),
            stored(3, "killed", StoredState::Running),
            stored(4, "withheld", StoredState::Running),
            stored(5, "other", StoredState::Running),
        ];
        for run in &killed {
            store.write(run).unwrap();
            fs::create_dir(runs.path().join(&run.run_id)).unwrap();
        }
        for (id, config, is_met) in [
            ("whole", "done", true),
            ("withheld", "done", false),
            // Another trainer finished a run of another configuration there.
            ("other", "other", true),
        ] {
            let mut manifest = crate::run::tests::withheld();
            manifest["config_sha256"] = Sha256::of(config.as_bytes()).as_str().into();
            manifest["publish_gate"][0]["met"] = is_met.into();
            let file = runs.path().join(id).join("manifest.json");
            fs::write(file, manifest.to_string()).unwrap();
        }
        let event = r#"{"event":"notice","text":"a teacher is away"}"#;
        fs::write(runs.path().join("failed/metrics.jsonl"), event).unwrap();
    }
    let fixture = start(runs.path());
    for id in ["killed", "other"] {
        let (_, folder) = fixture.begun.recv().unwrap();
        assert_eq!(folder, runs.path().join(id));
    }
    let [failed, whole, killed, withheld, _] = fixture.queue.list().try_into().ok().unwrap();
    assert_eq!(states(&killed).0.last(), Some(&RunState::Succeeded));
    assert_eq!(states(&whole).0, [RunState::Succeeded]);
    let (seen, reason) = states(&withheld);
    assert_eq!(seen, [RunState::Failed]);
    assert!(withheld.to_proto().withheld && reason.contains("publish.gate.min_accuracy = 0.9"));
    let events: Vec<Event> = block_on(failed.follow().collect());
    assert!(
        matches!(&events[..], [Event::Notice(_), Event::StateChanged(_)]),
        "{events:?}"
    );
}
