//! A signal to stop ends requests to a bucket at once, and the next process continues.

use std::sync::Arc;

use object_storage::Bucket;
use soft_targets::{RecordingStore, Replay, ShardId, StoreError};
use test_support::FaultyStore;
use tokio_util::sync::CancellationToken;

use super::{ENOUGH, Scene, URL, check_rows, copies, open, record_rest, try_open};
use crate::support::{PER_SHARD, VIEWS, targets};

impl Scene {
    /// What a process opens that is asked to stop by `stop`.
    fn stoppable(
        &self,
        objects: &Arc<FaultyStore>,
        process: &str,
        stop: &CancellationToken,
    ) -> RecordingStore {
        let options = self.options(process, ENOUGH);
        let objects = Arc::clone(objects);
        let bucket = Bucket::over(objects, URL.to_owned(), options.patience).unwrap();
        RecordingStore::in_bucket(bucket.stopped_by(stop.clone()), &options).unwrap()
    }
}

#[test]
fn a_stop_ends_the_download_of_shards_at_any_request_and_the_next_process_continues() {
    let scene = Scene::new();
    let whole = record_rest(&scene.store("writer")).unwrap();
    let shards = whole.shards(VIEWS).count();
    // The first request is that for `recording.json`.
    for requests in 0..=shards {
        let process = format!("reader {requests}");
        let stop = CancellationToken::new();
        let objects = FaultyStore::silent_after(requests, &stop, &scene.objects);
        let store = scene.stoppable(&objects, &process, &stop);
        let opened = try_open(&store).and_then(|recording| {
            let replay = Replay::new(recording, VIEWS).until(stop.clone());
            replay.open_all(0..VIEWS)
        });
        let error = opened.unwrap_err();
        assert!(matches!(error, StoreError::Stopped), "{requests}: {error}");
        assert_eq!(objects.hits(), 1, "{requests}");

        // Only the other shards are downloaded.
        let stop = CancellationToken::new();
        let left = 1 + shards - requests.saturating_sub(1);
        let objects = FaultyStore::silent_after(left, &stop, &scene.objects);
        let again = open(&scene.stoppable(&objects, &process, &stop));
        check_rows(again.clone()).unwrap();
        assert_eq!(copies(&again).len(), shards);
        assert_eq!(objects.hits(), 0, "{requests}");
    }
}

#[test]
fn a_stop_ends_listings_and_writes_and_a_list_of_copies_does_not_replace_them() {
    let scene = Scene::new();
    let recording = record_rest(&scene.store("writer")).unwrap();
    check_rows(open(&scene.store("reader"))).unwrap();
    for requests in [0, 1] {
        let stop = CancellationToken::new();
        let objects = FaultyStore::silent_after(requests, &stop, &scene.objects);
        let store = scene.stoppable(&objects, "reader", &stop);
        let error = store.list().unwrap_err();
        assert!(matches!(error, StoreError::Stopped), "{requests}: {error}");
    }

    // A shard that another process recorded: the writer is stopped while it compares the bytes, and changes nothing.
    let before = scene.contents();
    let id = ShardId { view: 0, shard: 0 };
    let targets = targets(recording.identity().encoding, id.view, 0..PER_SHARD);
    let stop = CancellationToken::new();
    let objects = FaultyStore::silent_after(2, &stop, &scene.objects);
    let writer = open(&scene.stoppable(&objects, "late", &stop));
    let lock = writer.lock().unwrap();
    let error = writer.write(id, &targets, &lock).unwrap_err();
    assert!(matches!(error, StoreError::Stopped), "{error}");
    assert_eq!(scene.contents(), before);
}
