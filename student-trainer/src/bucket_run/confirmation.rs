//! What the bucket has once it has confirmed a change, and a bucket that does not confirm one.

use std::{fs, path::Path, sync::Arc, time::Duration};

use object_storage::{Bucket, Location};
use object_store::{ObjectStore, memory::InMemory};
use test_support::{FaultyStore, SOON, StoreFault, eventually};
use tokio_util::sync::CancellationToken;

use super::{BucketOutput, BucketRun, BucketRunError, fetch::files_from};
use crate::events::EventSink;

const URL: &str = "s3://b/runs/.queue";

fn bucket(store: Arc<dyn ObjectStore>) -> Bucket {
    Bucket::over(store, URL.to_owned(), Duration::from_secs(60)).unwrap()
}

fn attach(
    store: Arc<dyn ObjectStore>,
    scratch: &Path,
    lease_seconds: u64,
    stop: &CancellationToken,
) -> Result<BucketRun, BucketRunError> {
    let Ok(Location::Bucket(location)) = Location::parse(Path::new(URL)) else {
        panic!("{URL} is a bucket");
    };
    let output = BucketOutput {
        location,
        scratch: Some(scratch.to_owned()),
        lease_seconds,
        patience: Duration::ZERO,
    };
    let notices = EventSink::none().notices();
    BucketRun::over(bucket(store), &output, |_| true, stop, &notices)
}

fn write(run: &BucketRun, text: &str) {
    let file = run.folder().join("runs/a.json");
    common::atomic_file::write(&file, text.as_bytes()).unwrap();
    run.enqueue().unwrap();
}

/// The file in the bucket, if it is there.
fn read(objects: &Arc<InMemory>) -> Option<String> {
    let folder = tempfile::tempdir().unwrap();
    let bucket = bucket(Arc::clone(objects) as Arc<dyn ObjectStore>);
    files_from(&bucket, &["runs/a.json", "none"], folder.path()).unwrap();
    fs::read_to_string(folder.path().join("runs/a.json")).ok()
}

#[test]
fn what_was_confirmed_is_in_the_bucket_when_the_process_dies_at_any_request() {
    let stop = CancellationToken::new();
    let mut confirmed = 0;
    for loses_reply in [false, true] {
        for requests in 0..16 {
            let objects = Arc::new(InMemory::new());
            let scratch = tempfile::tempdir().unwrap();
            let dying = FaultyStore::killed_after(requests, loses_reply, &objects);
            let Ok(run) = attach(dying, scratch.path(), 3600, &stop) else {
                continue;
            };
            write(&run, "queued");
            // With all requests, the bucket confirms; with fewer, it never does.
            let patience = if requests == 15 { SOON } else { Duration::ZERO };
            if run.wait_until_saved(patience).is_ok() {
                assert_eq!(read(&objects).as_deref(), Some("queued"));
                confirmed += 1;
            }
        }
    }
    assert!(confirmed >= 2, "{confirmed}");
}

#[test]
fn a_bucket_that_does_not_answer_or_has_another_owner_confirms_nothing() {
    let objects = Arc::new(InMemory::new());
    let folder = tempfile::tempdir().unwrap();
    let store = FaultyStore::over(&objects);
    let stop = CancellationToken::new();
    let scratch = |name: &str| folder.path().join(name);
    let old = Arc::clone(&store) as Arc<dyn ObjectStore>;
    let run = attach(old, &scratch("old"), 1, &stop).unwrap();
    write(&run, "one");
    run.wait_until_saved(SOON).unwrap();
    assert_eq!(read(&objects).as_deref(), Some("one"));

    store.set(StoreFault::Everything);
    eventually("a renewal that fails", || (store.hits() > 0).then_some(()));
    write(&run, "two");
    let error = run.wait_until_saved(Duration::ZERO).unwrap_err();
    assert!(
        matches!(error, BucketRunError::Unconfirmed { .. }),
        "{error}"
    );
    assert!(error.to_string().contains(URL), "{error}");

    let new = attach(
        Arc::clone(&objects) as Arc<dyn ObjectStore>,
        &scratch("new"),
        3600,
        &CancellationToken::new(),
    );
    let new = new.unwrap();
    assert_eq!(
        fs::read_to_string(new.folder().join("runs/a.json")).unwrap(),
        "one"
    );
    store.set(StoreFault::Nothing);
    eventually("the end of the old owner", || {
        stop.is_cancelled().then_some(())
    });
    let error = run.wait_until_saved(SOON).unwrap_err();
    assert!(error.to_string().contains("has taken over"), "{error}");
    assert_eq!(read(&objects).as_deref(), Some("one"));
}
