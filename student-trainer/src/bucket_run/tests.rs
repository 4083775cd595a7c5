//! Runs in a bucket whose store fails, and whose processes are killed or replaced.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use common::digest::Sha256;
use object_storage::{Bucket, BucketLocation, Location};
use object_store::{PutMode, memory::InMemory};
use test_support::{FaultyStore, StoreFault, eventually};
use tokio_util::sync::CancellationToken;

use super::{
    BucketOutput, BucketRun, BucketRunError,
    fetch::fetch_from,
    persistence::Persistence,
    record::{self, Found, RunRecord},
};
use crate::events::EventSink;

mod stops;

const URL: &str = "s3://b/runs/student";

/// Longer than a test takes.
const LONG: u64 = 3600;

/// A bucket, and the folders of several machines.
struct Scene {
    objects: Arc<InMemory>,
    folder: tempfile::TempDir,
}

/// A machine that uses the bucket.
struct Machine {
    store: Arc<FaultyStore>,
    output: BucketOutput,
    stop: CancellationToken,
}

impl Scene {
    fn new() -> Self {
        Self {
            objects: Arc::new(InMemory::new()),
            folder: tempfile::tempdir().unwrap(),
        }
    }

    /// A machine with the folder `name`, whose leases last so many seconds.
    fn machine(&self, name: &str, lease_seconds: u64) -> Machine {
        Machine {
            store: FaultyStore::over(&self.objects),
            output: BucketOutput {
                location: location(),
                scratch: Some(self.folder.path().join(name)),
                lease_seconds,
                patience: Duration::from_secs(60),
            },
            stop: CancellationToken::new(),
        }
    }

    /// The bucket as a reader sees it.
    fn bucket(&self) -> Bucket {
        let store = Arc::clone(&self.objects);
        Bucket::over(store, URL.to_owned(), Duration::from_secs(60)).unwrap()
    }

    fn record(&self) -> RunRecord {
        let Found { record, .. } = RunRecord::read(&self.bucket()).unwrap().unwrap();
        record
    }

    /// The contents in the bucket.
    fn contents(&self) -> BTreeSet<Sha256> {
        let listed = self.bucket().list(&record::objects()).unwrap();
        let contents = listed
            .iter()
            .map(|object| record::content(&object.location).unwrap());
        contents.collect()
    }

    /// The files that a reader downloads.
    fn fetched(&self) -> Result<PathBuf, BucketRunError> {
        let folder = tempfile::tempdir_in(self.folder.path()).unwrap().keep();
        let persistence = Persistence {
            url: URL,
            patience: Duration::ZERO,
            stop: &CancellationToken::new(),
        };
        fetch_from(&self.bucket(), &folder, persistence)?;
        Ok(folder)
    }
}

impl Machine {
    fn attach(&self) -> Result<BucketRun, BucketRunError> {
        self.attach_if(|_| false)
    }

    fn attach_if(&self, may_continue: impl Fn(&Path) -> bool) -> Result<BucketRun, BucketRunError> {
        let store = Arc::clone(&self.store);
        let bucket = Bucket::over(store, URL.to_owned(), Duration::from_secs(60)).unwrap();
        let notices = EventSink::none().notices();
        BucketRun::over(bucket, &self.output, may_continue, &self.stop, &notices)
    }

    fn finish(&self, run: &mut BucketRun) -> Result<(), BucketRunError> {
        run.finish(&self.stop)
    }
}

fn location() -> BucketLocation {
    match Location::parse(Path::new(URL)) {
        Ok(Location::Bucket(location)) => location,
        other => panic!("{other:?}"),
    }
}

fn write(run: &BucketRun, file: &str, text: &str) {
    let path = run.folder().join(file);
    common::atomic_file::write(&path, text.as_bytes()).unwrap();
}

fn read(folder: &Path, file: &str) -> String {
    fs::read_to_string(folder.join(file)).unwrap()
}

#[test]
fn another_machine_continues_with_the_newest_files() {
    let scene = Scene::new();
    let (first, second) = (scene.machine("first", LONG), scene.machine("second", LONG));
    let mut run = first.attach().unwrap();
    assert!(run.folder().ends_with("run/student"));
    write(&run, "config.toml", "seed = 1");
    write(&run, "checkpoints/step-1", "one");
    first.finish(&mut run).unwrap();
    drop(run);

    let mut run = second.attach().unwrap();
    assert_eq!(read(run.folder(), "config.toml"), "seed = 1");
    assert_eq!(read(run.folder(), "checkpoints/step-1"), "one");
    write(&run, "checkpoints/step-2", "two");
    fs::remove_file(run.folder().join("checkpoints/step-1")).unwrap();
    second.finish(&mut run).unwrap();
    drop(run);

    // The folder of the first machine is older than the bucket.
    let run = first.attach().unwrap();
    assert_eq!(read(run.folder(), "checkpoints/step-2"), "two");
    assert!(!run.folder().join("checkpoints/step-1").exists());
    let record = scene.record();
    assert_eq!((record.generation, record.files.len()), (2, 2));
    let fetched = scene.fetched().unwrap();
    assert_eq!(read(&fetched, "checkpoints/step-2"), "two");
}

#[test]
fn a_process_that_was_killed_continues_at_once_from_its_own_newer_folder() {
    let scene = Scene::new();
    let machine = scene.machine("machine", LONG);
    let run = machine.attach().unwrap();
    write(&run, "checkpoints/step-1", "one");
    run.save();
    eventually("the first state", || {
        (scene.record().generation == 1).then_some(())
    });
    write(&run, "checkpoints/step-2", "two");
    assert!(scene.record().lease.is_some());
    // Without the end of its lease, as if it was killed.
    drop(run);

    let mut run = machine.attach().unwrap();
    assert_eq!(read(run.folder(), "checkpoints/step-2"), "two");
    machine.finish(&mut run).unwrap();
    assert!(scene.record().lease.is_none());
    assert_eq!(read(&scene.fetched().unwrap(), "checkpoints/step-2"), "two");
    run.remove_scratch();
    assert_eq!(
        fs::read_dir(scene.folder.path().join("machine"))
            .unwrap()
            .count(),
        0
    );
}

#[test]
fn a_process_killed_before_its_commit_leaves_the_state_before_and_garbage_that_the_next_one_removes()
 {
    let scene = Scene::new();
    let killed = scene.machine("killed", 1);
    let run = killed.attach().unwrap();
    write(&run, "checkpoints/step-1", "one");
    run.save();
    eventually("the first state", || {
        (scene.record().generation == 1).then_some(())
    });
    killed.store.set(StoreFault::Writes(record::path()));
    write(&run, "checkpoints/step-2", "two");
    run.save();
    let two = Sha256::of(b"two");
    eventually("its upload", || {
        scene.contents().contains(&two).then_some(())
    });
    drop(run);
    assert!(killed.store.hits() > 0);

    let fetched = scene.fetched().unwrap();
    assert_eq!(read(&fetched, "checkpoints/step-1"), "one");
    assert!(!fetched.join("checkpoints/step-2").exists());
    let run = scene.machine("next", LONG).attach().unwrap();
    assert_eq!(read(run.folder(), "checkpoints/step-1"), "one");
    assert_eq!(scene.contents(), BTreeSet::from([Sha256::of(b"one")]));
}

#[test]
fn the_only_copy_of_a_run_is_kept() {
    let scene = Scene::new();
    let machine = scene.machine("machine", LONG);
    let mut run = machine.attach().unwrap();
    write(&run, "checkpoint", "one");
    machine.finish(&mut run).unwrap();
    drop(run);
    // Another store with a bucket of the same name.
    let astray = Machine {
        store: FaultyStore::over(&Arc::default()),
        ..scene.machine("machine", LONG)
    };
    let error = astray.attach().unwrap_err().to_string();
    assert!(
        error.contains("a run that s3://b/runs/student lacks"),
        "{error}"
    );
    let run = machine.attach().unwrap();
    assert_eq!(read(run.folder(), "checkpoint"), "one");
}

#[test]
fn contents_stay_for_one_generation_after_their_last() {
    let scene = Scene::new();
    let machine = scene.machine("machine", LONG);
    let mut run = machine.attach().unwrap();
    write(&run, "config.toml", "seed = 1");
    for generation in 1..=4 {
        write(&run, "checkpoint", &format!("state {generation}"));
        run.save();
        eventually("a state", || {
            (scene.record().generation == generation).then_some(())
        });
    }
    machine.finish(&mut run).unwrap();
    let contents = ["seed = 1", "state 3", "state 4"].map(|text| Sha256::of(text.as_bytes()));
    assert_eq!(scene.contents(), BTreeSet::from(contents));
    assert_eq!(scene.record().generation, 4);
}

#[test]
fn a_second_process_is_refused_while_the_first_renews_its_lease() {
    let scene = Scene::new();
    let first = scene.machine("first", 8);
    let mut run = first.attach().unwrap();
    let error = first.attach().unwrap_err();
    assert!(
        matches!(error, BucketRunError::ScratchInUse { .. }),
        "{error}"
    );

    let second = scene.machine("second", 8);
    let error = second.attach().unwrap_err();
    assert!(matches!(error, BucketRunError::InUse { .. }), "{error}");
    let holder = format!("process {}", std::process::id());
    assert!(error.to_string().contains(&holder), "{error}");

    first.finish(&mut run).unwrap();
    second.attach().unwrap();
}

#[test]
fn an_owner_that_was_replaced_stops_and_overwrites_nothing() {
    let scene = Scene::new();
    let (old, new) = (scene.machine("old", 1), scene.machine("new", LONG));
    let mut replaced = old.attach().unwrap();
    write(&replaced, "checkpoint", "common");
    replaced.save();
    eventually("a state", || (scene.record().generation == 1).then_some(()));

    old.store.set(StoreFault::Everything);
    eventually("a renewal that fails", || {
        (old.store.hits() > 0).then_some(())
    });
    let mut run = new.attach().unwrap();
    assert_eq!(read(run.folder(), "checkpoint"), "common");
    write(&run, "checkpoint", "of the new owner");
    write(&replaced, "checkpoint", "of the old owner");
    old.store.set(StoreFault::Nothing);
    eventually("the end of the old owner", || {
        old.stop.is_cancelled().then_some(())
    });
    let error = old.finish(&mut replaced).unwrap_err();
    assert!(matches!(error, BucketRunError::LostLease { .. }), "{error}");

    new.finish(&mut run).unwrap();
    let fetched = scene.fetched().unwrap();
    assert_eq!(read(&fetched, "checkpoint"), "of the new owner");
    // What the old owner has is older than the bucket.
    drop((run, replaced));
    let run = scene.machine("old", LONG).attach().unwrap();
    assert_eq!(read(run.folder(), "checkpoint"), "of the new owner");
}

#[test]
fn a_lost_reply_is_not_taken_for_another_owner() {
    let scene = Scene::new();
    let machine = scene.machine("machine", LONG);
    let loses_replies = || StoreFault::RepliesToWrites(record::path());
    machine.store.set(loses_replies());
    let heal_after = |hits: usize| {
        let store = Arc::clone(&machine.store);
        std::thread::spawn(move || {
            eventually("a lost reply", || (store.hits() >= hits).then_some(()));
            store.set(StoreFault::Nothing);
        })
    };
    let healed = heal_after(1);
    let mut run = machine.attach().unwrap();
    healed.join().unwrap();

    machine.store.set(loses_replies());
    let healed = heal_after(machine.store.hits() + 1);
    write(&run, "checkpoint", "one");
    machine.finish(&mut run).unwrap();
    healed.join().unwrap();
    let record = scene.record();
    assert_eq!((record.generation, record.files.len()), (1, 1));
    assert!(record.lease.is_none());
}

#[test]
fn a_store_that_fails_for_a_while_loses_nothing_and_the_newest_state_wins() {
    let scene = Scene::new();
    let machine = scene.machine("machine", LONG);
    let mut run = machine.attach().unwrap();
    machine.store.set(StoreFault::Everything);
    for state in ["one", "two", "three"] {
        write(&run, "checkpoint", state);
        run.save();
    }
    eventually("a failure", || (machine.store.hits() > 0).then_some(()));
    machine.store.set(StoreFault::Nothing);
    machine.finish(&mut run).unwrap();
    assert_eq!(read(&scene.fetched().unwrap(), "checkpoint"), "three");
}

#[test]
fn a_run_whose_bucket_stays_away_says_where_it_is_and_the_next_process_copies_it() {
    let scene = Scene::new();
    let mut machine = scene.machine("machine", LONG);
    machine.output.patience = Duration::ZERO;
    let mut run = machine.attach().unwrap();
    machine.store.set(StoreFault::Everything);
    write(&run, "manifest.json", "{}");
    let error = machine.finish(&mut run).unwrap_err();
    assert!(matches!(error, BucketRunError::Unsaved { .. }), "{error}");
    let folder = run.folder().to_owned();
    let text = error.to_string();
    for part in [URL, "it fails", "nothing is lost", folder.to_str().unwrap()] {
        assert!(text.contains(part), "{part} is not in: {text}");
    }
    drop(run);

    let error = machine.attach().unwrap_err();
    assert!(matches!(error, BucketRunError::Bucket(_)), "{error}");
    machine.store.set(StoreFault::Nothing);
    let mut run = machine.attach().unwrap();
    machine.finish(&mut run).unwrap();
    assert_eq!(read(&scene.fetched().unwrap(), "manifest.json"), "{}");
}

#[test]
fn a_download_that_takes_longer_than_the_lease_keeps_it() {
    let scene = Scene::new();
    let (first, second) = (scene.machine("first", LONG), scene.machine("second", 1));
    let mut run = first.attach().unwrap();
    write(&run, "checkpoint", "large");
    first.finish(&mut run).unwrap();
    // Ends only after the lease was renewed.
    let slow_contents = StoreFault::ReadsUntilChangeOf(record::path());
    second.store.set(slow_contents);
    let run = second.attach().unwrap();
    assert_eq!(second.store.hits(), 1);
    assert_eq!(read(run.folder(), "checkpoint"), "large");
}

#[test]
fn a_damaged_file_is_refused_by_name() {
    let scene = Scene::new();
    let machine = scene.machine("machine", LONG);
    let mut run = machine.attach().unwrap();
    write(&run, "checkpoint", "intact");
    machine.finish(&mut run).unwrap();
    drop(run);
    let object = record::object(&Sha256::of(b"intact"));
    for (damaged, problem) in [
        ("inta?t", "has the SHA-256"),
        ("longer than before", "bytes"),
    ] {
        let bucket = scene.bucket();
        bucket
            .put(&object, damaged.into(), PutMode::Overwrite)
            .unwrap();
        let other = scene.machine("other", LONG);
        for error in [other.attach().unwrap_err(), scene.fetched().unwrap_err()] {
            let text = error.to_string();
            assert!(
                text.contains(problem) && text.contains(object.as_ref()),
                "{text}"
            );
        }
        // A process that fails does not keep the lease.
        assert!(scene.record().lease.is_none());
    }
}

#[test]
fn a_finished_run_is_refused_unless_it_may_continue() {
    let scene = Scene::new();
    let machine = scene.machine("machine", LONG);
    let mut run = machine.attach().unwrap();
    write(&run, "manifest.json", "withheld");
    machine.finish(&mut run).unwrap();
    drop(run);
    let is_withheld = |folder: &Path| read(folder, "manifest.json") == "withheld";
    let other = scene.machine("other", LONG);
    // Without a checkpoint, nothing continues.
    for machine in [&machine, &other] {
        let error = machine.attach_if(is_withheld).unwrap_err();
        assert!(
            matches!(error, BucketRunError::AlreadyFinished { .. }),
            "{error}"
        );
    }
    let scene = Scene::new();
    let machine = scene.machine("machine", LONG);
    let mut run = machine.attach().unwrap();
    write(&run, "manifest.json", "withheld");
    write(&run, "checkpoints/step-1", "one");
    machine.finish(&mut run).unwrap();
    drop(run);
    let other = scene.machine("other", LONG);
    let error = other.attach().unwrap_err();
    assert!(
        matches!(error, BucketRunError::AlreadyFinished { .. }),
        "{error}"
    );
    assert!(scene.record().lease.is_none());
    other.attach_if(is_withheld).unwrap();
}

#[test]
fn a_prefix_with_other_objects_is_left_alone() {
    let scene = Scene::new();
    let put = |path: &str| {
        let bucket = scene.bucket();
        bucket
            .put(&path.into(), "x".into(), PutMode::Create)
            .unwrap();
    };
    // What a process left that was killed before it had the lease is no other object.
    put(record::object(&Sha256::of(b"x")).as_ref());
    drop(scene.machine("first", 1).attach().unwrap());
    assert!(scene.contents().is_empty());
    scene.bucket().remove(&record::path()).unwrap();

    put("other/run.json");
    let error = scene.machine("second", LONG).attach().unwrap_err();
    assert!(matches!(error, BucketRunError::Foreign { .. }), "{error}");
    assert!(error.to_string().contains("other/run.json"), "{error}");
    let error = scene.fetched().unwrap_err();
    assert!(matches!(error, BucketRunError::NoRun { .. }), "{error}");
    assert_eq!(
        scene
            .bucket()
            .list(&object_store::path::Path::default())
            .unwrap()
            .len(),
        1
    );
}
