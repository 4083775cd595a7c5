//! A signal to stop before the run begins ends it at once, also while the bucket does not answer.

use std::{sync::Arc, thread, time::Duration};

use object_storage::Bucket;
use test_support::{FaultyStore, StoreFault, eventually};
use tokio_util::sync::CancellationToken;

use super::{LONG, Machine, Scene, URL, read, write};
use crate::bucket_run::{BucketRunError, fetch::fetch_from, persistence::Persistence, record};

/// The files of a run that an earlier machine left.
const FILES: [(&str, &str); 2] = [("config.toml", "seed = 1"), ("checkpoints/step-1", "one")];

impl Scene {
    /// A bucket with a run that is not complete.
    fn with_run() -> Self {
        let scene = Self::new();
        let first = scene.machine("first", LONG);
        let mut run = first.attach().unwrap();
        for (file, text) in FILES {
            write(&run, file, text);
        }
        first.finish(&mut run).unwrap();
        scene
    }

    /// A machine whose bucket answers `requests` requests, and that is asked to stop at the next one.
    fn stopped_at(&self, requests: usize) -> Machine {
        let mut machine = self.machine("stopped", LONG);
        machine.store = FaultyStore::silent_after(requests, &machine.stop, &self.objects);
        // The end of the lease waits for no answer either.
        machine.output.patience = Duration::ZERO;
        machine
    }

    fn check_run(&self) {
        let fetched = self.fetched().unwrap();
        for (file, text) in FILES {
            assert_eq!(read(&fetched, file), text);
        }
    }
}

fn check_stopped(error: &BucketRunError) {
    assert!(matches!(error, BucketRunError::Stopped { .. }), "{error}");
}

#[test]
fn a_process_that_waits_for_a_lease_can_be_stopped() {
    let scene = Scene::new();
    drop(scene.machine("first", LONG).attach().unwrap());
    let second = scene.machine("second", LONG);
    second.stop.cancel();
    check_stopped(&second.attach().unwrap_err());
}

#[test]
fn a_stop_ends_the_start_at_any_request_and_the_bucket_keeps_the_run() {
    for requests in 0.. {
        let scene = Scene::with_run();
        let machine = scene.stopped_at(requests);
        match machine.attach() {
            Err(error) => {
                check_stopped(&error);
                assert!(machine.store.hits() > 0, "{requests}");
                scene.check_run();
            }
            Ok(run) => {
                assert_eq!(machine.store.hits(), 0);
                // The record is read, the lease taken, both files are downloaded and the contents listed.
                assert!(requests > 6, "{requests}");
                assert_eq!(read(run.folder(), "checkpoints/step-1"), "one");
                break;
            }
        }
    }
}

#[test]
fn a_process_that_stops_during_a_download_ends_its_lease() {
    let scene = Scene::with_run();
    let machine = scene.machine("stopped", LONG);
    // Nothing else changes it, so the download waits.
    let never = StoreFault::ReadsUntilChangeOf(record::path());
    machine.store.set(never);
    let (store, stop) = (Arc::clone(&machine.store), machine.stop.clone());
    let stopping = thread::spawn(move || {
        eventually("a download that waits", || (store.hits() > 0).then_some(()));
        stop.cancel();
    });
    check_stopped(&machine.attach().unwrap_err());
    stopping.join().unwrap();
    assert_eq!(machine.store.hits(), 1);
    assert!(scene.record().lease.is_none());
    let run = scene.machine("next", LONG).attach().unwrap();
    assert_eq!(read(run.folder(), "checkpoints/step-1"), "one");
}

#[test]
fn a_stop_ends_the_download_of_a_reader_at_any_request() {
    let scene = Scene::with_run();
    // The record, then both files.
    for requests in 0..3 {
        let stop = CancellationToken::new();
        let store = FaultyStore::silent_after(requests, &stop, &scene.objects);
        let silent = Arc::clone(&store);
        let bucket = Bucket::over(silent, URL.to_owned(), Duration::from_secs(60)).unwrap();
        let folder = scene.folder.path().join(format!("read {requests}"));
        let persistence = Persistence {
            url: URL,
            patience: Duration::ZERO,
            stop: &stop,
        };
        check_stopped(&fetch_from(&bucket, &folder, persistence).unwrap_err());
        assert_eq!(store.hits(), 1, "{requests}");
        assert!(!folder.exists());
    }
}
