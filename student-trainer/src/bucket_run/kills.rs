//! A process that is killed at any of its requests, the readers, and the process that continues.

use std::{collections::BTreeMap, path::Path, sync::Arc, time::Duration};

use object_storage::Bucket;
use object_store::{ObjectStore, memory::InMemory};
use test_support::FaultyStore;
use tokio_util::sync::CancellationToken;

use super::{
    BucketRunError,
    fetch::fetch_from,
    lease::{Claim, Lease},
    persistence::Persistence,
    record::{self, RunRecord},
    snapshot::Snapshot,
    uploads::{Contents, Uploads},
};
use crate::events::EventSink;

const URL: &str = "s3://b/runs/student";

/// The files of a run at some moments, with their contents.
const STATES: [&[(&str, &str)]; 4] = [
    &[],
    &[("config.toml", "c"), ("checkpoints/1", "one"), ("log", "a")],
    &[
        ("config.toml", "c"),
        ("checkpoints/2", "two"),
        ("log", "ab"),
    ],
    &[
        ("config.toml", "c"),
        ("checkpoints/3", "three"),
        ("log", "ab"),
        ("manifest.json", "m"),
    ],
];

fn bucket(store: Arc<dyn ObjectStore>) -> Arc<Bucket> {
    let patience = Duration::from_secs(60);
    Arc::new(Bucket::over(store, URL.to_owned(), patience).unwrap())
}

fn persistence(stop: &CancellationToken) -> Persistence<'_> {
    Persistence {
        url: URL,
        patience: Duration::ZERO,
        stop,
    }
}

/// Takes the lease, whose duration is over at once, and finds the contents of the bucket.
fn take(bucket: &Arc<Bucket>) -> Result<(Arc<Lease>, Uploads), BucketRunError> {
    let claim = Claim::new(None, 0);
    let notices = EventSink::none().notices();
    let stop = CancellationToken::new();
    let lease = Lease::take(bucket, claim, persistence(&stop), &notices)?;
    let lease = Arc::new(lease);
    let contents = Contents::find(bucket, &lease)?;
    let uploads = Uploads::new(bucket, &lease, contents);
    Ok((lease, uploads))
}

/// Saves these states of a run, and ends the lease.
fn save(
    (lease, mut uploads): (Arc<Lease>, Uploads),
    states: &[&[(&str, &str)]],
) -> Result<(), BucketRunError> {
    for state in states {
        let folder = tempfile::tempdir().unwrap();
        for (file, text) in *state {
            common::atomic_file::write(&folder.path().join(file), text.as_bytes()).unwrap();
        }
        uploads.save(&Snapshot::of(folder.path())?, || ())?;
    }
    lease.release()
}

/// The position of the state that a reader finds; 0 if there is no run.
fn read(bucket: &Bucket) -> usize {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    let stop = CancellationToken::new();
    match fetch_from(bucket, &run, persistence(&stop)) {
        Err(BucketRunError::NoRun { .. }) => return 0,
        read => read.unwrap(),
    }
    let found = files(&run);
    let state = |state: &[(&str, &str)]| -> BTreeMap<String, String> {
        let files = state.iter();
        files
            .map(|(file, text)| ((*file).to_owned(), (*text).to_owned()))
            .collect()
    };
    let position = STATES.iter().position(|it| state(it) == found);
    position.unwrap_or_else(|| panic!("a mixture: {found:?}"))
}

fn files(run: &Path) -> BTreeMap<String, String> {
    let snapshot = Snapshot::of(run).unwrap();
    let text = |content: Vec<u8>| String::from_utf8(content).unwrap();
    let files = snapshot.files.iter();
    files
        .map(|file| (file.path.clone(), text(file.read().unwrap())))
        .collect()
}

/// Checks that the bucket has the files of its record and nothing that the record does not name.
fn check_contents(bucket: &Bucket) {
    let record = RunRecord::read(bucket).unwrap().unwrap().record;
    let listed = bucket.list(&record::objects()).unwrap();
    let contents = listed
        .iter()
        .map(|object| record::content(&object.location).unwrap());
    let contents: Vec<_> = contents.collect();
    for content in &contents {
        assert!(record.names(content), "{content} is garbage");
    }
    for (path, file) in &record.files {
        assert!(contents.contains(&file.sha256), "{path} is missing");
    }
}

#[test]
fn a_process_that_was_replaced_before_it_looked_for_garbage_removes_nothing() {
    let live = bucket(Arc::new(InMemory::new()));
    let (replaced, _) = take(&live).unwrap();
    let (lease, mut uploads) = take(&live).unwrap();
    let folder = tempfile::tempdir().unwrap();
    common::atomic_file::write(&folder.path().join("log"), b"new").unwrap();
    let state = Snapshot::of(folder.path()).unwrap();
    uploads.save(&state, || ()).unwrap();

    let error = Contents::find(&live, &replaced).unwrap_err();
    assert!(matches!(error, BucketRunError::LostLease { .. }), "{error}");
    check_contents(&live);
    lease.renew().unwrap();
}

#[test]
fn a_process_killed_at_any_request_leaves_a_whole_state_from_which_the_next_one_continues() {
    for loses_reply in [false, true] {
        let mut reached = 0;
        for requests in 0.. {
            let objects = Arc::new(InMemory::new());
            let dying = bucket(FaultyStore::killed_after(requests, loses_reply, &objects));
            let done = take(&dying).and_then(|taken| save(taken, &STATES[1..]));
            let live = bucket(objects);
            let state = read(&live);
            assert!(state >= reached, "{requests} requests lead back");
            reached = state;
            if done.is_ok() {
                assert!(requests > 15, "{requests}");
                break;
            }
            let taken = take(&live).unwrap();
            check_contents(&live);
            assert_eq!(read(&live), state);
            save(taken, &STATES[3..]).unwrap();
            check_contents(&live);
            assert_eq!(read(&live), 3);
        }
        assert_eq!(reached, 3);
    }
}
