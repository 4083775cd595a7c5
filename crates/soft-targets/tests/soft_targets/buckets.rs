//! Recordings in a bucket: the same names and bytes as in a folder, any number of writers, copies on this machine.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    thread,
    time::Duration,
};

use crate::support::{CLASSES, PER_SHARD, VIEWS, identity, names, record, targets, write};
use object_storage::Bucket;
use object_store::{ObjectStore, PutMode, memory::InMemory, path::Path as ObjectPath};
use soft_targets::{
    BucketOptions, Fault, Recording, RecordingStore, Replay, ShardId, SoftTargets, StoreError,
    WantedRecording, Written,
};
use tempfile::TempDir;
use test_support::FaultyStore;

mod stops;

const URL: &str = "s3://bucket/targets";

const ENOUGH: u64 = 1 << 30;

/// A bucket without a server, and a folder with the copies of each process.
struct Scene {
    objects: Arc<InMemory>,
    folder: TempDir,
}

impl Scene {
    fn new() -> Self {
        Self {
            objects: Arc::default(),
            folder: tempfile::tempdir().unwrap(),
        }
    }

    fn cache(&self, process: &str) -> PathBuf {
        self.folder.path().join(process)
    }

    fn options(&self, process: &str, max_cache_bytes: u64) -> BucketOptions {
        BucketOptions {
            cache: self.cache(process),
            max_cache_bytes,
            patience: Duration::from_secs(60),
        }
    }

    /// What the process called `process` opens, whose requests go to `objects`.
    fn store_over(&self, objects: Arc<dyn ObjectStore>, process: &str, max: u64) -> RecordingStore {
        let options = self.options(process, max);
        let bucket = Bucket::over(objects, URL.to_owned(), options.patience).unwrap();
        RecordingStore::in_bucket(bucket, &options).unwrap()
    }

    fn store(&self, process: &str) -> RecordingStore {
        self.store_over(self.objects.clone(), process, ENOUGH)
    }

    /// A process whose bucket does not answer after `requests`.
    fn dying(&self, process: &str, requests: usize, loses_reply: bool) -> RecordingStore {
        let objects = FaultyStore::killed_after(requests, loses_reply, &self.objects);
        self.store_over(objects, process, ENOUGH)
    }

    fn bucket(&self) -> Bucket {
        let objects = self.objects.clone();
        Bucket::over(objects, URL.to_owned(), Duration::from_secs(60)).unwrap()
    }

    /// The content of every object.
    fn contents(&self) -> BTreeMap<String, Vec<u8>> {
        let bucket = self.bucket();
        let listed = bucket.list(&ObjectPath::default()).unwrap().into_iter();
        let content = listed.map(|object| {
            let bytes = bucket.download(&object.location, object.size).unwrap();
            (object.location.to_string(), bytes.to_vec())
        });
        content.collect()
    }

    /// Replaces the content of a shard in the bucket.
    fn overwrite(&self, recording: &Recording, id: ShardId, bytes: Vec<u8>) {
        let path = format!("{}/{id}", recording.name()).into();
        let bucket = self.bucket();
        assert!(bucket.put(&path, bytes.into(), PutMode::Overwrite).unwrap());
    }
}

fn open(store: &RecordingStore) -> Recording {
    try_open(store).unwrap()
}

fn try_open(store: &RecordingStore) -> Result<Recording, StoreError> {
    store.open_or_create(&identity("f16"), PER_SHARD, &names())
}

/// Records what the bucket lacks, as a worker does.
fn record_rest(store: &RecordingStore) -> Result<Recording, StoreError> {
    let recording = try_open(store)?;
    let lock = recording.lock()?;
    for fault in recording.to_record(recording.shards(VIEWS))? {
        let (id, encoding) = (fault.id, recording.identity().encoding);
        if !recording.has(id)? {
            let targets = targets(encoding, id.view, recording.samples(id.shard));
            recording.write(id, &targets, &lock)?;
        }
    }
    assert_eq!(recording.missing(VIEWS)?, 0);
    Ok(recording)
}

/// The contents of a recording in a folder, by the names of the objects.
fn expected() -> BTreeMap<String, Vec<u8>> {
    let folder = tempfile::tempdir().unwrap();
    let recording = record(folder.path(), &identity("f16"));
    let shards = recording.shards(VIEWS).map(|id| id.path());
    let files = shards.chain([PathBuf::from("recording.json")]);
    let content = files.map(|file| {
        let name = format!("{}/{}", recording.name(), file.display());
        (name, fs::read(recording.folder().join(file)).unwrap())
    });
    content.collect()
}

/// Checks that every view can be read and has the right rows.
fn check_rows(recording: Recording) -> Result<(), StoreError> {
    let encoding = recording.identity().encoding;
    let replay = Replay::new(recording, VIEWS);
    replay.open_all(0..VIEWS)?;
    for view in 0..VIEWS {
        let samples = [9, 0, 3, 4, 4, 8];
        let expected = targets(encoding, view, samples.into_iter());
        assert_eq!(replay.gather(view, &samples), expected);
    }
    Ok(())
}

fn copies(recording: &Recording) -> Vec<PathBuf> {
    let paths = recording
        .shards(VIEWS)
        .map(|id| recording.folder().join(id.path()));
    paths.filter(|path| path.exists()).collect()
}

#[test]
fn a_recording_in_a_bucket_has_the_names_and_bytes_of_one_in_a_folder() {
    let scene = Scene::new();
    let recording = record_rest(&scene.store("writer")).unwrap();
    let name = recording.name();
    assert_eq!(recording.place(), Path::new(URL).join(&name));
    assert_eq!(scene.contents(), expected());
    assert_eq!(recording.views().unwrap(), VIEWS);
    let space = recording.estimate(VIEWS).unwrap();
    assert_eq!((space.needed, space.disk), (0, None));

    let listed = scene.store("reader").list().unwrap();
    let [reader] = &listed.usable[..] else {
        panic!("{listed:?}");
    };
    assert!(listed.damaged.is_empty(), "{listed:?}");
    assert_eq!(reader.identity(), recording.identity());
    assert_eq!(reader.class_names(), Some(&*names()));
    assert!(copies(reader).is_empty());
    check_rows(reader.clone()).unwrap();
    // The copies are a recording in a folder.
    let copy = Recording::open(reader.folder()).unwrap();
    assert_eq!(copy.faults(VIEWS), []);
    check_rows(copy).unwrap();
}

#[test]
fn of_many_writers_of_a_shard_the_first_one_wins_and_the_others_find_the_same_bytes() {
    let scene = Scene::new();
    let id = ShardId { view: 1, shard: 2 };
    let write = |process: u32| {
        let recording = open(&scene.store(&process.to_string()));
        let targets = targets(recording.identity().encoding, id.view, 8..10);
        let lock = recording.lock().unwrap();
        recording.write(id, &targets, &lock).unwrap()
    };
    let written: Vec<_> = thread::scope(|scope| {
        let write = &write;
        let writers: Vec<_> = (0..8).map(|n| scope.spawn(move || write(n))).collect();
        let writers = writers.into_iter();
        writers.map(|writer| writer.join().unwrap()).collect()
    });
    let here = written.iter().filter(|written| **written == Written::Here);
    assert_eq!(here.count(), 1, "{written:?}");
    let whole = expected();
    let found = scene.contents();
    assert_eq!(found.len(), 2);
    for (name, bytes) in found {
        assert_eq!(Some(&bytes), whole.get(&name), "{name}");
    }
}

#[test]
fn a_shard_with_other_soft_targets_is_kept_and_a_damaged_one_replaced() {
    let scene = Scene::new();
    let recording = open(&scene.store("writer"));
    let id = ShardId { view: 0, shard: 1 };
    let lock = recording.lock().unwrap();
    let encoding = recording.identity().encoding;
    let own = targets(encoding, 0, 4..8);
    let written = |targets: &SoftTargets| recording.write(id, targets, &lock);
    assert_eq!(written(&own).unwrap(), Written::Here);
    assert_eq!(written(&own).unwrap(), Written::Elsewhere);
    assert_eq!(recording.missing(VIEWS).unwrap(), 5);
    let whole = scene.contents();

    // The logits of another view are those of a teacher that computes other bits.
    let error = written(&targets(encoding, 1, 4..8)).unwrap_err();
    assert!(matches!(error, StoreError::OtherTargets { .. }), "{error}");
    let error = error.to_string();
    let url = format!("{URL}/{}/view-0000/shard-00001", recording.name());
    assert!(error.contains(&url), "{error}");
    assert_eq!(scene.contents(), whole);

    let object = &whole[&format!("{}/{id}", recording.name())];
    let mut flipped = object.clone();
    *flipped.last_mut().unwrap() ^= 1;
    let longer = [&object[..], b"x"].concat();
    for damaged in [flipped, longer, object[..50].to_vec(), Vec::new()] {
        scene.overwrite(&recording, id, damaged);
        assert_eq!(written(&own).unwrap(), Written::Here);
        assert_eq!(scene.contents(), whole);
    }
}

#[test]
fn a_damaged_copy_is_downloaded_again() {
    let scene = Scene::new();
    record_rest(&scene.store("writer")).unwrap();
    let reader = open(&scene.store("reader"));
    check_rows(reader.clone()).unwrap();
    let [first, second] = [0, 1].map(|shard| ShardId { view: 0, shard });
    let path = reader.folder().join(first.path());
    let whole = fs::read(&path).unwrap();
    let mut flipped = whole.clone();
    *flipped.last_mut().unwrap() ^= 1;
    let foreign = fs::read(reader.folder().join(second.path())).unwrap();
    for damaged in [flipped, foreign, whole[..50].to_vec(), Vec::new()] {
        fs::write(&path, damaged).unwrap();
        check_rows(reader.clone()).unwrap();
        assert_eq!(fs::read(&path).unwrap(), whole);
    }
    fs::remove_file(&path).unwrap();
    check_rows(reader).unwrap();
    assert_eq!(fs::read(&path).unwrap(), whole);
}

#[test]
fn what_is_wrong_with_an_object_is_said_and_no_copy_of_it_is_kept() {
    let scene = Scene::new();
    let recording = record_rest(&scene.store("writer")).unwrap();
    let [first, second] = [0, 1].map(|shard| ShardId { view: 0, shard });
    let name = |id: ShardId| format!("{}/{id}", recording.name());
    let whole = scene.contents();
    let mut flipped = whole[&name(first)].clone();
    *flipped.last_mut().unwrap() ^= 1;
    for (damaged, part) in [
        (flipped, "is damaged: its SHA-256"),
        (
            whole[&name(second)].clone(),
            "another place, view 0, shard 1",
        ),
    ] {
        scene.overwrite(&recording, first, damaged);
        let reader = open(&scene.store("reader"));
        let error = check_rows(reader.clone()).unwrap_err();
        assert!(matches!(error, StoreError::DamagedObject { .. }), "{error}");
        let error = error.to_string();
        let url = format!("{URL}/{}", name(first));
        let has = |part: &str| error.contains(part);
        assert!(
            has(&url) && has(part) && has("remove the object"),
            "{error}"
        );
        assert!(!reader.folder().join(first.path()).exists());
    }

    // What has another length, or is missing, `retort record` records again.
    let bucket = scene.bucket();
    scene.overwrite(&recording, first, vec![0; 2000]);
    bucket.remove(&name(second).into()).unwrap();
    let reader = open(&scene.store("late"));
    let error = check_rows(reader.clone()).unwrap_err().to_string();
    assert!(error.contains("2 of the shards"), "{error}");
    assert!(error.contains("`retort record`"), "{error}");
    let faults = reader.to_record(reader.shards(VIEWS)).unwrap();
    let [length, missing] = &faults[..] else {
        panic!("{faults:?}");
    };
    let expected = reader.file_bytes(first);
    assert_eq!(
        length.fault,
        Fault::Length {
            found: 2000,
            expected
        }
    );
    assert_eq!((missing.id, &missing.fault), (second, &Fault::Missing));
    record_rest(&scene.store("again")).unwrap();
    assert_eq!(scene.contents(), whole);
    check_rows(reader).unwrap();
}

#[test]
fn the_copies_have_a_limit_and_what_is_mapped_stays_valid() {
    let scene = Scene::new();
    let recording = record_rest(&scene.store("writer")).unwrap();
    let shard = recording.file_bytes(ShardId { view: 0, shard: 0 });
    let store = scene.store_over(scene.objects.clone(), "reader", 3 * shard);
    let reader = open(&store);
    // Reads all six shards; the rows are compared after the first copies were removed.
    check_rows(reader.clone()).unwrap();
    let left = copies(&reader);
    let bytes: u64 = left.iter().map(|path| path.metadata().unwrap().len()).sum();
    assert!(!left.is_empty() && bytes <= 3 * shard, "{left:?}");
    check_rows(reader).unwrap();
}

#[test]
fn what_has_a_copy_is_used_while_the_bucket_does_not_answer() {
    let scene = Scene::new();
    record_rest(&scene.store("writer")).unwrap();
    check_rows(open(&scene.store("reader"))).unwrap();

    let listed = scene.dying("reader", 0, false).list().unwrap();
    let [reader] = &listed.usable[..] else {
        panic!("{listed:?}");
    };
    let [warning] = &listed.damaged[..] else {
        panic!("{listed:?}");
    };
    let warning = warning.to_string();
    assert!(
        warning.contains(URL) && warning.contains("copies"),
        "{warning}"
    );
    check_rows(reader.clone()).unwrap();
    // The bucket may have the recording that fits.
    let other = identity("f32");
    let wanted = WantedRecording {
        images: &other.images,
        views: &other.views,
        encoding: Some(other.encoding),
        teacher: None,
    };
    let partial = scene.dying("reader", 0, false).list().unwrap();
    let error = partial.find(&wanted, None).unwrap_err();
    assert!(error.is_temporary(), "{error}");
    let text = error.to_string();
    assert!(
        text.contains("f16 instead of f32") && text.contains("it fails"),
        "{text}"
    );
    let whole = scene.store("reader").list().unwrap();
    let error = whole.find(&wanted, None).unwrap_err();
    assert!(matches!(error, StoreError::NoneFits { .. }), "{error}");

    // A shard without a copy.
    let id = ShardId { view: 1, shard: 0 };
    fs::remove_file(reader.folder().join(id.path())).unwrap();
    let error = check_rows(reader.clone()).unwrap_err();
    assert!(error.is_temporary(), "{error}");
    let url = format!("{URL}/{}/{id}", reader.name());
    assert!(error.to_string().contains(&url), "{error}");

    // A process without any copy.
    for error in [
        scene.dying("other", 0, false).list().map(drop),
        try_open(&scene.dying("other", 0, false)).map(drop),
        record_rest(&scene.dying("other", 1, false)).map(drop),
    ] {
        let error = error.unwrap_err();
        assert!(
            error.is_temporary() && error.to_string().contains(URL),
            "{error}"
        );
    }
}

#[test]
fn a_worker_that_is_killed_at_any_step_continues_and_leaves_whole_shards() {
    let expected = expected();
    for loses_reply in [false, true] {
        for requests in 0.. {
            let case = format!("{requests} requests, loses_reply = {loses_reply}");
            let scene = Scene::new();
            let recorded = record_rest(&scene.dying("killed", requests, loses_reply));
            for (name, bytes) in scene.contents() {
                assert_eq!(Some(&bytes), expected.get(&name), "{case}: {name}");
            }
            record_rest(&scene.store("again")).expect(&case);
            assert_eq!(scene.contents(), expected, "{case}");
            match recorded {
                Err(error) => assert!(error.is_temporary(), "{case}: {error}"),
                Ok(_) => {
                    assert!(requests > 12, "six shards take more requests");
                    break;
                }
            }
        }
    }
}

#[test]
fn a_recording_that_exists_keeps_its_class_names_and_its_shards() {
    let scene = Scene::new();
    let recording = record_rest(&scene.store("writer")).unwrap();
    write(&recording, ShardId { view: 0, shard: 0 });
    let again = scene.store("again");
    let again = again.open_or_create(&identity("f16"), 3, &[]).unwrap();
    assert_eq!(again.samples_per_shard(), PER_SHARD);
    assert_eq!(again.class_names().map(<[String]>::len), Some(CLASSES));

    // Two recordings in one bucket, of which one cannot be read.
    let path = format!("{}/recording.json", recording.name()).into();
    let bucket = scene.bucket();
    assert!(bucket.put(&path, "{}".into(), PutMode::Overwrite).unwrap());
    let store = scene.store("reader");
    let other = store.open_or_create(&identity("f32"), PER_SHARD, &names());
    let other = other.unwrap();
    let listed = store.list().unwrap();
    let usable: Vec<_> = listed.usable.iter().map(Recording::name).collect();
    assert_eq!(usable, [other.name()]);
    let [damaged] = &listed.damaged[..] else {
        panic!("{listed:?}");
    };
    let url = format!("{URL}/{}", recording.name());
    assert!(damaged.to_string().contains(&url), "{damaged}");
}
