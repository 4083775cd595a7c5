//! Recordings on disk: replay, faults, readers in other languages.

use std::{fs, os::unix::fs::symlink, path::Path, process::Command};

use crate::support::{PER_SHARD, SAMPLES, VIEWS, create, identity, record, targets, write};
use artifacts::manifest::TeacherIdentity;
use proptest::prelude::*;
use safetensors::SafeTensors;
use soft_targets::{
    Fault, MAX_VIEWS, Recording, Recordings, Replay, ShardId, StoreError, WantedRecording,
};
use tokio_util::sync::CancellationToken;

const ENCODINGS: [&str; 6] = ["f32", "f16", "top-2", "top-3-f32", "top-5", "sampled-3-t2"];

#[test]
fn a_stop_ends_the_verification_of_shards() {
    let store = tempfile::tempdir().unwrap();
    let recording = record(store.path(), &identity("f16"));
    let stop = CancellationToken::new();
    let replay = Replay::new(recording, VIEWS).until(stop.clone());
    replay.open(0).unwrap();
    stop.cancel();
    let error = replay.open_all(0..VIEWS).unwrap_err();
    assert!(matches!(error, StoreError::Stopped), "{error}");
    // What was opened before stays open.
    replay.open(0).unwrap();
    assert!(replay.is_open(0) && !replay.is_open(1));
}

#[test]
fn replay_gives_the_rows_of_any_samples_in_any_order() {
    for encoding in ENCODINGS {
        let store = tempfile::tempdir().unwrap();
        let recording = record(store.path(), &identity(encoding));
        assert_eq!(recording.faults(VIEWS), []);
        let replay = Replay::new(recording.clone(), VIEWS);
        replay.open_all(0..VIEWS).unwrap();
        for view in 0..VIEWS {
            let samples = [9, 0, 3, 4, 4, 8];
            let expected = targets(recording.identity().encoding, view, samples.into_iter());
            assert_eq!(replay.gather(view, &samples), expected, "{encoding}");
        }
    }
}

#[test]
fn shards_are_what_the_safetensors_crate_reads() {
    for encoding in ENCODINGS {
        let store = tempfile::tempdir().unwrap();
        let recording = record(store.path(), &identity(encoding));
        let id = ShardId { view: 1, shard: 2 };
        let bytes = fs::read(recording.folder().join(id.path())).unwrap();
        assert_eq!(bytes.len() as u64, recording.file_bytes(id));
        let (header, metadata) = SafeTensors::read_metadata(&bytes).unwrap();
        assert_eq!(header % 8, 0, "tensors are aligned");
        let metadata = metadata.metadata().as_ref().unwrap();
        assert_eq!(metadata["encoding"], encoding);
        assert_eq!(metadata["teacher"], "ab".repeat(32));
        assert_eq!(metadata["first_sample"], "8");
        let tensors = SafeTensors::deserialize(&bytes).unwrap();
        let expected = targets(recording.identity().encoding, 1, 8..10);
        let (parts, kept) = (expected.parts(), expected.kept());
        for (name, bytes, columns) in [
            ("logits", &parts.logits, kept),
            ("kept_classes", &parts.kept_classes, kept),
            ("rest", &parts.tail_buckets, 2),
        ] {
            match tensors.tensor(name) {
                Ok(tensor) => {
                    assert_eq!(tensor.data(), bytes);
                    assert_eq!(tensor.shape(), [2, columns], "{encoding} {name}");
                }
                Err(_) => assert!(bytes.is_empty(), "{encoding} {name}"),
            }
        }
    }
}

fn floats(values: &serde_json::Value) -> Vec<f32> {
    serde_json::from_value(values.clone()).unwrap()
}

#[test]
fn python_reads_a_shard_with_safetensors_alone() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let python = root.join(".deps/python/bin/python");
    assert!(python.exists(), "run scripts/setup --tests first");
    let store = tempfile::tempdir().unwrap();
    for encoding in ["f16", "top-2"] {
        let recording = record(store.path(), &identity(encoding));
        let id = ShardId { view: 0, shard: 1 };
        let output = Command::new(&python)
            .arg(root.join("crates/soft-targets/tests/soft_targets/read_shard.py"))
            .arg(recording.folder().join(id.path()))
            .output()
            .unwrap();
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{error}");
        let read: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(read["metadata"]["first_sample"], "4");
        let expected = targets(recording.identity().encoding, 0, 4..8);
        let logits: Vec<f32> = expected.logits().collect();
        assert_eq!(floats(&read["logits"]), logits);
        if encoding == "top-2" {
            let classes: Vec<u32> = expected.kept_classes().collect();
            assert_eq!(read["kept_classes"], serde_json::json!(classes));
            let buckets = expected.tail_buckets();
            let buckets = buckets.flat_map(|bucket| [bucket.log_mass, bucket.mean_logit]);
            assert_eq!(floats(&read["rest"]), buckets.collect::<Vec<_>>());
        }
    }
}

#[test]
fn any_flipped_byte_of_a_shard_is_found_and_no_other_shard_is_blamed() {
    let store = tempfile::tempdir().unwrap();
    let recording = record(store.path(), &identity("top-2"));
    let id = ShardId { view: 0, shard: 1 };
    let path = recording.folder().join(id.path());
    let whole = fs::read(&path).unwrap();
    for position in 0..whole.len() {
        let mut flipped = whole.clone();
        flipped[position] ^= 0x20;
        fs::write(&path, &flipped).unwrap();
        let faults = recording.faults(VIEWS);
        assert_eq!(faults.len(), 1, "byte {position}: {faults:?}");
        assert_eq!(faults[0].id, id);
        assert_ne!(faults[0].fault, Fault::Missing);
    }
    write(&recording, id);
    assert_eq!(fs::read(&path).unwrap(), whole);
    assert_eq!(recording.faults(VIEWS), []);
}

#[test]
fn what_is_wrong_with_a_shard_is_said() {
    let store = tempfile::tempdir().unwrap();
    let recording = record(store.path(), &identity("f16"));
    let path = |view, shard| recording.folder().join(ShardId { view, shard }.path());
    let fault = || {
        recording
            .read(ShardId { view: 0, shard: 1 })
            .unwrap_err()
            .to_string()
    };
    let whole = fs::read(path(0, 1)).unwrap();

    fs::write(path(0, 1), &whole[..whole.len() - 1]).unwrap();
    let expected = format!("{} bytes long instead of {}", whole.len() - 1, whole.len());
    assert_eq!(fault(), expected);
    fs::write(path(0, 1), [&whole[..], b"x"].concat()).unwrap();
    assert!(fault().contains("bytes long"), "{}", fault());
    fs::write(path(0, 1), b"").unwrap();
    assert!(fault().starts_with("0 bytes long"), "{}", fault());
    fs::remove_file(path(0, 1)).unwrap();
    assert_eq!(fault(), "not recorded");
    fs::copy(path(1, 0), path(0, 1)).unwrap();
    assert_eq!(fault(), "a shard of another place, view 1, shard 0");
    let mut last = whole.clone();
    *last.last_mut().unwrap() ^= 1;
    fs::write(path(0, 1), &last).unwrap();
    assert!(fault().contains("SHA-256"), "{}", fault());

    // Intact shards of another recording.
    let id = ShardId { view: 0, shard: 1 };
    let mut others = [(); 4].map(|()| identity("f16"));
    others[0].teacher.model_id = "12".repeat(32);
    others[1].images.fingerprint = "34".repeat(32);
    others[2].views.seed = 2;
    others[3].teacher.numerics = "bf16".into();
    for (other, named) in others
        .iter()
        .zip(["121212121212", "343434343434", "view_seed 2", ""])
    {
        let other = record(store.path(), other);
        fs::copy(other.folder().join(id.path()), path(0, 1)).unwrap();
        assert!(fault().contains("another recording"), "{}", fault());
        assert!(fault().contains(named), "{}", fault());
    }
}

#[test]
fn a_recording_continues() {
    let store = tempfile::tempdir().unwrap();
    let recording = create(store.path(), &identity("f32"));
    assert_eq!(recording.views().unwrap(), 0);
    write(&recording, ShardId { view: 0, shard: 0 });
    let unfinished = recording.folder().join("view-0000/.writing-abc");
    fs::write(&unfinished, "half a shard").unwrap();

    // Another number of images per shard does not change an existing recording.
    let again = Recording::open_or_create(store.path(), &identity("f32"), 3, &[]).unwrap();
    assert_eq!(again.samples_per_shard(), PER_SHARD);
    // Nor do other class names: the existing ones belong to the recorded logits.
    assert_eq!(again.class_names(), Some(&*crate::support::names()));
    again.lock().unwrap();
    assert!(!unfinished.exists());

    let missing = again.faults(VIEWS);
    assert_eq!(
        missing.len() as u32,
        VIEWS * SAMPLES.div_ceil(PER_SHARD) - 1
    );
    assert!(missing.iter().all(|fault| fault.fault == Fault::Missing));
    let shards: Vec<_> = missing.iter().map(|fault| fault.id).collect();
    assert_eq!(
        again.space(&shards).unwrap().needed,
        again.estimate(VIEWS).unwrap().needed
    );
    let many: Vec<_> = again.shards(120).collect();
    let there = again.file_bytes(ShardId { view: 0, shard: 0 });
    assert_eq!(
        again.space(&many).unwrap().needed - there,
        again.estimate(120).unwrap().needed
    );
    let error = Replay::new(again, VIEWS)
        .open_all(0..VIEWS)
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("5 of the shards") && error.contains("not recorded"),
        "{error}"
    );
}

#[test]
fn the_recording_that_fits_is_found_and_others_are_explained() {
    let store = tempfile::tempdir().unwrap();
    let own = identity("f16");
    let wanted = WantedRecording {
        images: &own.images,
        views: &own.views,
        encoding: None,
        teacher: None,
    };
    let list = || Recordings::list(store.path()).unwrap();
    let find = |teacher| list().find(&wanted, teacher);
    let error = find(None).unwrap_err().to_string();
    assert!(error.contains("none at all"), "{error}");

    let mut other = own.clone();
    other.views.seed = 7;
    create(store.path(), &other);
    let error = find(None).unwrap_err().to_string();
    assert!(
        error.contains("view_seed 7") && error.contains("view_seed 1"),
        "{error}"
    );

    let recording = create(store.path(), &own);
    assert_eq!(find(None).unwrap().folder(), recording.folder());
    assert_eq!(find(Some("abab")).unwrap().folder(), recording.folder());
    let error = find(Some("0")).unwrap_err().to_string();
    assert!(error.contains("instead of 0"), "{error}");

    create(store.path(), &identity("f32"));
    let error = find(None).unwrap_err();
    assert!(matches!(error, StoreError::Ambiguous { .. }), "{error}");
    let wanted = WantedRecording {
        encoding: Some(own.encoding),
        ..wanted
    };
    let found = list().find(&wanted, None).unwrap();
    assert_eq!(found.folder(), recording.folder());
    let stranger = TeacherIdentity {
        numerics: "tf32".into(),
        ..own.teacher.clone()
    };
    let wanted = WantedRecording {
        teacher: Some(&stranger),
        ..wanted
    };
    let error = list().find(&wanted, None).unwrap_err().to_string();
    assert!(error.contains("tf32"), "{error}");
}

#[test]
fn a_description_that_cannot_be_read_is_named() {
    let store = tempfile::tempdir().unwrap();
    let recording = record(store.path(), &identity("f16"));
    let file = recording.folder().join("recording.json");
    let text = fs::read_to_string(&file).unwrap();
    for (from, to, part) in [
        (
            "\"format_version\": 2",
            "\"format_version\": 3",
            "format_version 3 is newer",
        ),
        ("\"samples\": 10", "\"samples\": 0", "are 0 or too large"),
        (
            "\"samples_per_shard\": 4",
            "\"samples_per_shard\": 0",
            "are 0 or too large",
        ),
        (
            "\"samples\": 10",
            "\"samples\": 4294967295",
            "make 1073741824 shards a view",
        ),
        ("\"f16\"", "\"f17\"", "f17"),
        ("{", "", "recording.json"),
    ] {
        fs::write(&file, text.replacen(from, to, 1)).unwrap();
        let error = Recording::open(recording.folder()).unwrap_err().to_string();
        assert!(error.contains(part), "{error}");
        let listed = Recordings::list(store.path()).unwrap();
        assert!(listed.usable.is_empty());
        assert_eq!(listed.damaged[0].to_string(), error);
    }
    // A description that does not match the folder's name.
    fs::write(
        &file,
        text.replacen("\"samples\": 10", "\"samples\": 11", 1),
    )
    .unwrap();
    let error = Recording::open_or_create(store.path(), &identity("f16"), 4, &[]).unwrap_err();
    assert!(error.to_string().contains("it was changed"), "{error}");
}

/// A program that reads such a recording view by view would run practically forever.
#[test]
fn more_views_than_a_recording_may_have_are_refused() {
    let store = tempfile::tempdir().unwrap();
    let recording = record(store.path(), &identity("f16"));
    recording.estimate(MAX_VIEWS).unwrap();
    refused_as_too_large(recording.estimate(MAX_VIEWS + 1));
    fs::create_dir(recording.folder().join("view-4294967295")).unwrap();
    refused_as_too_large(recording.views());
    refused_as_too_large(recording.lock());

    let mut large = identity("f16");
    large.images.samples = 1_000_001;
    refused_as_too_large(Recording::open_or_create(store.path(), &large, 1, &[]));
    let most = Recording::open_or_create(store.path(), &large, 2, &[]).unwrap();
    refused_as_too_large(most.estimate(2));
}

fn refused_as_too_large<T>(result: Result<T, StoreError>) {
    let error = result.err().unwrap();
    assert!(matches!(error, StoreError::TooLarge { .. }), "{error}");
}

#[test]
fn damaged_recordings_are_named_and_hide_no_others() {
    let store = tempfile::tempdir().unwrap();
    let path = |name: &str| store.path().join(name);
    let own = identity("f16");
    let recording = record(store.path(), &own);
    let elsewhere = tempfile::tempdir().unwrap();
    let linked = record(elsewhere.path(), &identity("f32"));
    symlink(linked.folder(), path("linked")).unwrap();
    for (name, description) in [
        ("empty", ""),
        ("cut", "{\"format"),
        ("newer", "{\"format_version\": 9}"),
    ] {
        fs::create_dir(path(name)).unwrap();
        fs::write(path(name).join("recording.json"), description).unwrap();
    }
    // The folders of this recording number too many views.
    let many = record(store.path(), &identity("top-2"));
    fs::create_dir(many.folder().join("view-20000")).unwrap();
    fs::create_dir(path("gone")).unwrap();
    symlink(
        "/nowhere/recording.json",
        path("gone").join("recording.json"),
    )
    .unwrap();
    symlink("nowhere", path("dangling")).unwrap();
    // Other files and folders are ignored.
    fs::create_dir(path("notes")).unwrap();
    fs::write(path("notes.txt"), "x").unwrap();

    let listed = Recordings::list(store.path()).unwrap();
    let folders: Vec<_> = listed.usable.iter().map(Recording::folder).collect();
    let mut expected = [recording.folder(), &path("linked")];
    expected.sort();
    assert_eq!(folders, expected);
    assert_eq!(
        listed
            .usable
            .iter()
            .map(|found| found.faults(VIEWS).len())
            .sum::<usize>(),
        0
    );
    let damaged: Vec<_> = listed.damaged.iter().map(StoreError::to_string).collect();
    let many = many.name();
    for part in [
        "/empty",
        "/cut",
        "/newer",
        "/gone",
        "/dangling",
        many.as_str(),
    ] {
        assert!(
            damaged.iter().any(|text| text.contains(part)),
            "{part} is not in: {damaged:?}"
        );
    }
    assert_eq!(damaged.len(), 6, "{damaged:?}");

    let wanted = WantedRecording {
        images: &own.images,
        views: &own.views,
        encoding: Some(own.encoding),
        teacher: None,
    };
    let found = listed.find(&wanted, None).unwrap();
    assert_eq!(found.folder(), recording.folder());
    let encoding = "top-4".parse().ok();
    let wanted = WantedRecording { encoding, ..wanted };
    let listed = Recordings::list(store.path()).unwrap();
    let error = listed.find(&wanted, None).unwrap_err().to_string();
    assert!(error.contains("/empty"), "{error}");
}

#[test]
fn a_copy_of_a_view_under_another_name_is_no_view() {
    let store = tempfile::tempdir().unwrap();
    let recording = record(store.path(), &identity("f16"));
    for odd in ["view-7", "view-+009", "view-00011", "view-0012.bak"] {
        fs::create_dir(recording.folder().join(odd)).unwrap();
    }
    fs::write(recording.folder().join("view-0013"), "x").unwrap();
    assert_eq!(recording.views().unwrap(), VIEWS);
    assert_eq!(recording.faults(VIEWS), []);
}

proptest! {
    #![proptest_config(test_support::damage::cases(256))]

    #[test]
    fn no_damage_to_a_description_makes_its_reader_panic(
        position in any::<prop::sample::Index>(),
        value in any::<u8>(),
    ) {
        let store = tempfile::tempdir().unwrap();
        let recording = create(store.path(), &identity("f16"));
        let file = recording.folder().join("recording.json");
        let mut text = fs::read(&file).unwrap();
        // Excludes the newline at the end, which has no meaning.
        let position = position.index(text.len() - 1);
        text[position] = value;
        fs::write(&file, &text).unwrap();
        let listed = Recordings::list(store.path()).unwrap();
        prop_assert_eq!(listed.usable.len() + listed.damaged.len(), 1);
        fs::write(&file, &text[..position]).unwrap();
        prop_assert_eq!(Recordings::list(store.path()).unwrap().damaged.len(), 1);
    }
}
