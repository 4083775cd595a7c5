//! Recordings by several workers.

use std::{collections::BTreeSet, fs, num::NonZeroU32, path::Path, thread};

use crate::support::{self, VIEWS, create, identity, targets};
use soft_targets::{Recording, ShardId, SoftTargets, StoreError, Worker, Written};

#[test]
fn workers_share_the_shards_of_any_number_of_views() {
    let store = tempfile::tempdir().unwrap();
    let recording = create(store.path(), &identity("f32"));
    let of = NonZeroU32::new(2).unwrap();
    let share = |views, index| -> Vec<_> {
        let worker = Worker::new(index, of).unwrap();
        let shards = recording.share(views, worker);
        shards.map(|id| (id.view, id.shard)).collect()
    };
    // Three shards a view.
    assert_eq!(share(2, 0), [(0, 0), (0, 2), (1, 1)]);
    assert_eq!(share(2, 1), [(0, 1), (1, 0), (1, 2)]);
    assert_eq!(share(3, 1)[..3], share(2, 1));
    let all: Vec<_> = recording.shards(VIEWS).collect();
    assert!(recording.share(VIEWS, Worker::ALONE).eq(all));
}

#[test]
fn of_many_writers_of_a_shard_the_first_one_wins_and_the_others_find_the_same_bytes() {
    let store = tempfile::tempdir().unwrap();
    let id = ShardId { view: 1, shard: 2 };
    let write = |_| {
        let recording = create(store.path(), &identity("f16"));
        let targets = targets(recording.identity().encoding, id.view, 8..10);
        let lock = recording.lock().unwrap();
        recording.write(id, &targets, &lock).unwrap()
    };
    let written: Vec<_> = thread::scope(|scope| {
        let writers: Vec<_> = (0..8).map(|n| scope.spawn(move || write(n))).collect();
        let writers = writers.into_iter();
        writers.map(|writer| writer.join().unwrap()).collect()
    });
    let here = written.iter().filter(|written| **written == Written::Here);
    assert_eq!(here.count(), 1, "{written:?}");

    // The bytes are those of one writer, and the folders hold nothing else.
    let alone = tempfile::tempdir().unwrap();
    let expected = create(alone.path(), &identity("f16"));
    support::write(&expected, id);
    let recording = create(store.path(), &identity("f16"));
    for file in [Path::new("recording.json"), &id.path()] {
        let read = |recording: &Recording| fs::read(recording.folder().join(file)).unwrap();
        assert_eq!(read(&recording), read(&expected), "{}", file.display());
    }
    let names = |folder: &Path| -> BTreeSet<_> {
        let entries = fs::read_dir(folder).unwrap();
        entries.map(|entry| entry.unwrap().file_name()).collect()
    };
    for folder in ["", "view-0001"] {
        let [found, expected] =
            [&recording, &expected].map(|recording| names(&recording.folder().join(folder)));
        assert_eq!(found, expected);
    }
}

#[test]
fn a_shard_with_other_soft_targets_is_kept_and_a_damaged_one_replaced() {
    let store = tempfile::tempdir().unwrap();
    let recording = create(store.path(), &identity("f32"));
    let id = ShardId { view: 0, shard: 1 };
    let lock = recording.lock().unwrap();
    let encoding = recording.identity().encoding;
    let own = targets(encoding, 0, 4..8);
    let written = |targets: &SoftTargets| recording.write(id, targets, &lock);
    assert_eq!(written(&own).unwrap(), Written::Here);
    assert_eq!(written(&own).unwrap(), Written::Elsewhere);
    assert_eq!(recording.missing(VIEWS).unwrap(), 5);

    let path = recording.folder().join(id.path());
    let whole = fs::read(&path).unwrap();
    // The logits of another view are those of a teacher that computes other bits.
    let error = written(&targets(encoding, 1, 4..8)).unwrap_err();
    assert!(matches!(error, StoreError::OtherTargets { .. }), "{error}");
    let error = error.to_string();
    assert!(error.contains("view-0000/shard-00001"), "{error}");
    assert_eq!(fs::read(&path).unwrap(), whole);

    let mut damaged = whole.clone();
    *damaged.last_mut().unwrap() ^= 1;
    fs::write(&path, damaged).unwrap();
    assert_eq!(written(&own).unwrap(), Written::Here);
    assert_eq!(fs::read(&path).unwrap(), whole);
}
