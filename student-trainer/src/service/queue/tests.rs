use std::sync::mpsc;

use futures::{StreamExt, executor::block_on};
use proto::runs::v1::watch_run_response::Event;

use super::*;
use crate::events::RunEvent;

const LIMITS: QueueConfig = QueueConfig {
    waiting_runs: 2,
    remembered_runs: 1,
};

struct Fixture {
    queue: RunQueue,
    runs: tempfile::TempDir,
}

fn queue() -> Fixture {
    let runs = tempfile::tempdir().unwrap();
    let queue = RunQueue::start(runs.path().to_owned(), LIMITS).unwrap();
    Fixture { queue, runs }
}

/// A job that says that it began and goes on until it is cancelled.
fn until_cancelled(began: mpsc::Sender<()>) -> Job {
    Box::new(move |_, _, cancel| {
        began.send(()).unwrap();
        block_on(cancel.cancelled());
        Err("stopped between two steps".into())
    })
}

fn done() -> Job {
    Box::new(|_, _, _| Ok(()))
}

/// Waits for the end of a run; all its states, and the reason of the last.
fn states(record: &RunRecord) -> (Vec<RunState>, String) {
    let events: Vec<Event> = block_on(record.follow().collect());
    let states = events.iter().filter_map(|event| match event {
        Event::StateChanged(run) => Some(run.state()),
        _ => None,
    });
    (states.collect(), record.to_proto().reason)
}

#[test]
fn runs_are_done_in_order_each_in_a_folder_of_its_own() {
    let Fixture { queue, runs } = queue();
    let (sender, order) = mpsc::channel();
    let job = |number: u8| -> Job {
        let sender = sender.clone();
        Box::new(move |folder, events, _| {
            sender.send((number, folder.to_owned())).unwrap();
            events.send(RunEvent::Notice {
                text: number.to_string(),
            });
            Ok(())
        })
    };
    let first = queue.submit("a", job(1)).unwrap();
    let second = queue.submit("a", job(2)).unwrap();
    for record in [&first, &second] {
        let expected = [RunState::Queued, RunState::Running, RunState::Succeeded];
        assert_eq!(states(record), (expected.to_vec(), String::new()));
    }
    let done: Vec<_> = order.try_iter().collect();
    assert_eq!(
        done,
        [(1, runs.path().join("a")), (2, runs.path().join("a-2"))]
    );
    assert_eq!(second.id().to_string(), "a-2");
}

#[test]
fn a_failure_or_a_panic_is_that_runs_alone() {
    let Fixture { queue, .. } = queue();
    let failing = queue
        .submit("a", Box::new(|_, _, _| Err("no data".into())))
        .unwrap();
    let panicking = queue
        .submit("b", Box::new(|_, _, _| panic!("bug {}", 7)))
        .unwrap();
    assert_eq!(states(&failing).0.last(), Some(&RunState::Failed));
    assert_eq!(states(&failing).1, "no data");
    assert_eq!(states(&panicking).1, "internal error: bug 7");
    let fine = queue.submit("c", done()).unwrap();
    assert_eq!(states(&fine).0.last(), Some(&RunState::Succeeded));
}

#[test]
fn waiting_and_running_runs_can_be_cancelled_ended_ones_cannot() {
    let Fixture { queue, runs } = queue();
    let (began, has_begun) = mpsc::channel();
    let running = queue.submit("a", until_cancelled(began)).unwrap();
    let waiting = queue.submit("b", done()).unwrap();
    has_begun.recv().unwrap();

    queue.cancel(waiting.id()).unwrap();
    assert_eq!(states(&waiting).0, [RunState::Queued, RunState::Cancelled]);
    assert!(!runs.path().join("b").exists());

    queue.cancel(running.id()).unwrap();
    let expected = [RunState::Queued, RunState::Running, RunState::Cancelled];
    let reason = "cancelled on request".to_owned();
    assert_eq!(states(&running), (expected.to_vec(), reason));

    let error = queue.cancel(running.id()).err().unwrap().to_string();
    assert!(error.contains("RUN_STATE_CANCELLED"), "{error}");
    let error = queue.cancel(&RunId::new("x")).err().unwrap().to_string();
    assert!(error.contains("no run `x`"), "{error}");
}

#[test]
fn what_waits_and_what_is_remembered_is_bounded() {
    let Fixture { queue, .. } = queue();
    let (began, has_begun) = mpsc::channel();
    let running = queue.submit("a", until_cancelled(began)).unwrap();
    has_begun.recv().unwrap();
    let waiting = [
        queue.submit("b", done()).unwrap(),
        queue.submit("c", done()).unwrap(),
    ];
    let refused = queue.submit("d", done()).err().unwrap();
    assert!(matches!(refused, ServiceError::QueueFull { waiting: 2 }));

    queue.cancel(running.id()).unwrap();
    for record in &waiting {
        assert_eq!(states(record).0.last(), Some(&RunState::Succeeded));
    }
    let newest = queue.submit("e", done()).unwrap();
    let known: Vec<String> = queue
        .list()
        .iter()
        .map(|run| run.id().to_string())
        .collect();
    assert_eq!(known, ["c", "e"]);
    assert_eq!(states(&newest).0.last(), Some(&RunState::Succeeded));
}

#[test]
fn closing_cancels_everything_refuses_more_and_ends_the_thread() {
    let Fixture { queue, .. } = queue();
    let (began, has_begun) = mpsc::channel();
    let running = queue.submit("a", until_cancelled(began)).unwrap();
    has_begun.recv().unwrap();
    let waiting = queue.submit("b", done()).unwrap();
    queue.close();
    block_on(queue.ended());
    for record in [&running, &waiting] {
        let (states, reason) = states(record);
        assert_eq!(states.last(), Some(&RunState::Cancelled));
        assert!(reason.contains("shut down"), "{reason}");
    }
    let refused = queue.submit("c", done()).err().unwrap();
    assert!(matches!(refused, ServiceError::ShuttingDown));
}
