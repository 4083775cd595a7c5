use std::os::unix::{ffi::OsStrExt, fs::symlink};

use super::*;
use crate::model_store::test_model::{manifest, name};

fn numbers(store: &FolderStore, model: &ModelName) -> Vec<u64> {
    let versions = store.versions(model).unwrap();
    versions.iter().map(|stored| stored.version).collect()
}

#[test]
fn versions_are_numbered_kept_and_activated() {
    let folder = tempfile::tempdir().unwrap();
    let model = name("digits");
    let store = FolderStore::open(folder.path()).unwrap();
    assert_eq!(store.commit(&model, b"one", &manifest(b"one")).unwrap(), 1);
    assert_eq!(store.commit(&model, b"two", &manifest(b"two")).unwrap(), 2);
    assert_eq!(store.active(&model).unwrap(), None);
    store.activate(&model, 2).unwrap();
    store.activate(&model, 1).unwrap();
    drop(store);

    let store = FolderStore::open(folder.path()).unwrap();
    assert_eq!(store.models().unwrap(), std::slice::from_ref(&model));
    assert_eq!(numbers(&store, &model), [1, 2]);
    let active = store.active(&model).unwrap().unwrap();
    assert_eq!((active.version, active.newest_served), (1, 2));
    let stored = store.manifest(&model, 2).unwrap();
    assert_eq!(store.onnx(&model, 2, &stored).unwrap(), b"two");
}

#[test]
fn the_number_of_a_deleted_version_is_not_reused() {
    let folder = tempfile::tempdir().unwrap();
    let model = name("digits");
    let store = FolderStore::open(folder.path()).unwrap();
    for bytes in [b"one", b"two"] {
        let version = store.commit(&model, bytes, &manifest(bytes)).unwrap();
        store.activate(&model, version).unwrap();
    }
    store.activate(&model, 1).unwrap();
    store.delete(&model, 2).unwrap();
    assert_eq!(numbers(&store, &model), [1]);
    for result in [store.delete(&model, 2), store.activate(&model, 2)] {
        assert!(matches!(
            result,
            Err(StoreError::NoSuchVersion { version: 2, .. })
        ));
    }
    assert_eq!(store.commit(&model, b"new", &manifest(b"new")).unwrap(), 3);
}

#[test]
fn half_written_versions_are_skipped_and_removed_at_the_next_start() {
    let folder = tempfile::tempdir().unwrap();
    let model = name("digits");
    let store = FolderStore::open(folder.path()).unwrap();
    store.commit(&model, b"one", &manifest(b"one")).unwrap();
    let half = folder.path().join("digits/2");
    fs::create_dir(&half).unwrap();
    fs::write(half.join(MODEL_FILE), b"half").unwrap();
    let foreign = folder.path().join("digits/config.pbtxt");
    fs::write(&foreign, b"Triton's").unwrap();

    assert_eq!(numbers(&store, &model), [1]);
    drop(store);
    let store = FolderStore::open(folder.path()).unwrap();
    assert!(!half.exists() && foreign.exists());
    assert_eq!(store.commit(&model, b"two", &manifest(b"two")).unwrap(), 2);
}

#[test]
fn errors_name_the_damaged_file() {
    let folder = tempfile::tempdir().unwrap();
    let model = name("digits");
    let store = FolderStore::open(folder.path()).unwrap();
    store.commit(&model, b"one", &manifest(b"one")).unwrap();
    store.activate(&model, 1).unwrap();
    let stored = store.manifest(&model, 1).unwrap();

    fs::write(folder.path().join("digits/1/model.onnx"), b"two").unwrap();
    let error = store.onnx(&model, 1, &stored).unwrap_err().to_string();
    assert!(error.contains("digits/1/model.onnx"), "{error}");

    fs::write(folder.path().join("digits/1/manifest.json"), b"{").unwrap();
    let error = store.manifest(&model, 1).unwrap_err().to_string();
    assert!(error.contains("digits/1/manifest.json"), "{error}");

    // It does not affect publishing or listing, and can be deleted.
    assert_eq!(store.commit(&model, b"two", &manifest(b"two")).unwrap(), 2);
    assert_eq!(store.find(&model, &manifest(b"two")).unwrap(), Some(2));
    assert_eq!(store.find(&model, &manifest(b"one")).unwrap(), None);
    let [damaged, whole] = store.versions(&model).unwrap().try_into().unwrap();
    assert_eq!((damaged.version, damaged.manifest), (1, None));
    assert_eq!(whole.manifest, Some(manifest(b"two")));
    assert!(store.stored(&model, 3).unwrap().is_none());
    store.delete(&model, 1).unwrap();
    assert_eq!(numbers(&store, &model), [2]);

    for bad in [
        "",
        "{}",
        r#"{"format_version":2,"version":1,"newest_served":1}"#,
    ] {
        fs::write(folder.path().join("digits/active.json"), bad).unwrap();
        let error = store.active(&model).unwrap_err().to_string();
        assert!(error.contains("digits/active.json"), "{error}");
    }
    assert_eq!(numbers(&store, &model), [2]);
}

#[test]
fn models_are_equal_by_file_and_manifest_regardless_of_provenance() {
    let folder = tempfile::tempdir().unwrap();
    let model = name("digits");
    let store = FolderStore::open(folder.path()).unwrap();
    let first = manifest(b"one");
    store.commit(&model, b"one", &first).unwrap();
    let mut renamed = first.clone();
    renamed.class_names = vec!["b".to_owned()];
    assert_eq!(store.find(&model, &renamed).unwrap(), None);
    store.commit(&model, b"one", &renamed).unwrap();
    assert_eq!(store.find(&model, &renamed).unwrap(), Some(2));
    assert_eq!(store.find(&model, &first).unwrap(), Some(1));

    let mut of_another_run = first;
    of_another_run.provenance.run = "another".to_owned();
    assert_eq!(store.find(&model, &of_another_run).unwrap(), Some(1));
}

#[test]
fn a_canary_counts_as_served_and_the_active_version_stays() {
    let folder = tempfile::tempdir().unwrap();
    let model = name("digits");
    let store = FolderStore::open(folder.path()).unwrap();
    assert_eq!(store.commit(&model, b"one", &manifest(b"one")).unwrap(), 1);
    // Without an active version there is nothing to note.
    store.note_served(&model, 1).unwrap();
    assert_eq!(store.active(&model).unwrap(), None);
    store.activate(&model, 1).unwrap();

    assert_eq!(store.commit(&model, b"two", &manifest(b"two")).unwrap(), 2);
    let active = store.active(&model).unwrap().unwrap();
    assert_eq!((active.version, active.newest_served), (1, 1));
    let canary = store.commit_canary(&model, b"three", &manifest(b"three"), None);
    assert_eq!(canary.unwrap(), 3);
    let active = store.active(&model).unwrap().unwrap();
    assert_eq!((active.version, active.newest_served), (1, 3));
    // Noting an older version changes nothing.
    store.note_served(&model, 2).unwrap();
    assert_eq!(store.active(&model).unwrap(), Some(active));
    store.activate(&model, 3).unwrap();
    assert_eq!(store.active(&model).unwrap().unwrap().version, 3);
}

#[test]
fn one_process_at_a_time_can_open_a_store() {
    let folder = tempfile::tempdir().unwrap();
    let store = FolderStore::open(folder.path()).unwrap();
    let second = FolderStore::open(folder.path());
    assert!(matches!(second, Err(StoreError::InUse { .. })));
    drop(store);
    FolderStore::open(folder.path()).unwrap();
}

#[test]
fn names_that_could_leave_the_folder_are_rejected() {
    for good in ["a", "fashion-mnist", "ResNet_8.v2", "0", &"a".repeat(64)] {
        assert!(ModelName::new(good).is_ok(), "{good}");
    }
    let long = "a".repeat(1_000_000);
    for bad in [
        "", ".", "..", "a/b", "/a", "a\\b", "a b", "-a", ".a", "a\0", "é", &long,
    ] {
        let error = ModelName::new(bad).expect_err(bad).to_string();
        assert!(error.len() < 300, "{error}");
    }
}

#[test]
fn a_version_has_one_spelling() {
    assert_eq!(parse_version("12"), Some(12));
    for bad in [
        "",
        "0",
        "01",
        "+1",
        "-1",
        "1.0",
        " 1",
        "latest",
        "18446744073709551616",
    ] {
        assert_eq!(parse_version(bad), None, "{bad}");
    }
}

#[test]
fn the_numbers_of_a_deleted_model_are_not_reused() {
    let folder = tempfile::tempdir().unwrap();
    let (model, other) = (name("digits"), name("letters"));
    let store = FolderStore::open(folder.path()).unwrap();
    for bytes in [b"one", b"two"] {
        let version = store.commit(&model, bytes, &manifest(bytes)).unwrap();
        store.activate(&model, version).unwrap();
    }
    store.commit(&other, b"one", &manifest(b"one")).unwrap();
    assert_eq!(store.delete_model(&model).unwrap(), [1, 2]);
    assert_eq!(store.models().unwrap(), std::slice::from_ref(&other));
    assert_eq!(store.active(&model).unwrap(), None);
    let again = store.delete_model(&model).unwrap_err();
    assert!(matches!(again, StoreError::NoSuchModel { .. }), "{again}");
    let mut left: Vec<_> = fs::read_dir(folder.path()).unwrap().collect();
    left.retain(|entry| entry.as_ref().unwrap().path().is_dir());
    assert_eq!(left.len(), 1, "{left:?}");
    drop(store);

    let store = FolderStore::open(folder.path()).unwrap();
    assert_eq!(store.commit(&model, b"new", &manifest(b"new")).unwrap(), 3);
    assert_eq!(store.commit(&other, b"two", &manifest(b"two")).unwrap(), 2);
    // Works before the first activation, and a second time.
    assert_eq!(store.delete_model(&model).unwrap(), [3]);
    assert_eq!(store.commit(&model, b"new", &manifest(b"new")).unwrap(), 4);
}

#[test]
fn a_model_of_damaged_files_can_be_deleted() {
    let folder = tempfile::tempdir().unwrap();
    let model = name("digits");
    let store = FolderStore::open(folder.path()).unwrap();
    store.commit(&model, b"one", &manifest(b"one")).unwrap();
    store.commit(&model, b"two", &manifest(b"two")).unwrap();
    fs::write(folder.path().join("digits/active.json"), b"{").unwrap();
    fs::write(folder.path().join("digits/1/manifest.json"), b"{").unwrap();
    assert_eq!(store.delete_model(&model).unwrap(), [1, 2]);
    assert!(store.models().unwrap().is_empty());
    assert_eq!(store.commit(&model, b"new", &manifest(b"new")).unwrap(), 3);
}

/// The state after a process was killed between the steps of a deletion.
#[test]
fn the_next_start_completes_an_interrupted_deletion() {
    let folder = tempfile::tempdir().unwrap();
    let model = name("digits");
    let store = FolderStore::open(folder.path()).unwrap();
    store.commit(&model, b"one", &manifest(b"one")).unwrap();
    store.activate(&model, 1).unwrap();
    drop(store);
    let half = folder.path().join(".deleting-digits");
    fs::rename(folder.path().join("digits"), &half).unwrap();
    fs::remove_file(half.join("1/manifest.json")).unwrap();

    let store = FolderStore::open(folder.path()).unwrap();
    assert!(!half.exists());
    assert!(store.models().unwrap().is_empty());
}

#[test]
fn linked_models_and_versions_work_like_others() {
    let folder = tempfile::tempdir().unwrap();
    let elsewhere = tempfile::tempdir().unwrap();
    let (here, linked) = (name("here"), name("linked"));
    let other = FolderStore::open(elsewhere.path()).unwrap();
    let store = FolderStore::open(folder.path()).unwrap();
    other.commit(&here, b"one", &manifest(b"one")).unwrap();
    fs::create_dir(folder.path().join("here")).unwrap();
    symlink(
        elsewhere.path().join("here/1"),
        folder.path().join("here/1"),
    )
    .unwrap();
    symlink(elsewhere.path().join("here"), folder.path().join("linked")).unwrap();
    drop(store);

    let store = FolderStore::open(folder.path()).unwrap();
    assert_eq!(store.models().unwrap(), [here.clone(), linked.clone()]);
    for model in [&here, &linked] {
        assert_eq!(numbers(&store, model), [1]);
        assert_eq!(store.find(model, &manifest(b"one")).unwrap(), Some(1));
        assert_eq!(store.onnx(model, 1, &manifest(b"one")).unwrap(), b"one");
    }
    // New versions are written beside the linked version, and into the linked folder.
    assert_eq!(store.commit(&here, b"two", &manifest(b"two")).unwrap(), 2);
    assert_eq!(store.commit(&linked, b"two", &manifest(b"two")).unwrap(), 2);
    store.activate(&linked, 2).unwrap();
    assert_eq!(other.active(&here).unwrap().unwrap().version, 2);

    store.delete(&here, 1).unwrap();
    assert_eq!(numbers(&store, &here), [2]);
    assert_eq!(other.onnx(&here, 1, &manifest(b"one")).unwrap(), b"one");
}

#[test]
fn dangling_links_and_unusual_names_are_ignored_and_kept() {
    let folder = tempfile::tempdir().unwrap();
    let model = name("digits");
    let store = FolderStore::open(folder.path()).unwrap();
    store.commit(&model, b"one", &manifest(b"one")).unwrap();
    drop(store);
    let path = |name: &str| folder.path().join(name);
    let empty = tempfile::tempdir().unwrap();
    symlink("nowhere", path("dangling")).unwrap();
    symlink("loop", path("loop")).unwrap();
    fs::create_dir(folder.path().join(std::ffi::OsStr::from_bytes(b"\xa3"))).unwrap();
    fs::write(path("file"), "x").unwrap();
    symlink("nowhere", path("digits/2")).unwrap();
    fs::write(path("digits/3"), "x").unwrap();
    // A link without a manifest is kept: the mount with its target may return.
    symlink(empty.path(), path("digits/4")).unwrap();
    for odd in ["digits/01", "digits/1.bak"] {
        fs::create_dir(path(odd)).unwrap();
    }

    let store = FolderStore::open(folder.path()).unwrap();
    assert_eq!(store.models().unwrap(), std::slice::from_ref(&model));
    assert_eq!(numbers(&store, &model), [1]);
    // The new version gets an unused number.
    assert_eq!(store.commit(&model, b"two", &manifest(b"two")).unwrap(), 5);
    for kept in [
        "digits/01",
        "digits/1.bak",
        "digits/2",
        "digits/3",
        "digits/4",
    ] {
        assert!(path(kept).is_symlink() || path(kept).exists(), "{kept}");
    }
    // A dangling link can be deleted.
    store.delete(&model, 2).unwrap();
    assert!(!path("digits/2").is_symlink());
}

#[test]
fn a_version_with_an_unreachable_manifest_is_damaged_and_not_half_written() {
    let folder = tempfile::tempdir().unwrap();
    let model = name("digits");
    let store = FolderStore::open(folder.path()).unwrap();
    store.commit(&model, b"one", &manifest(b"one")).unwrap();
    drop(store);
    let file = folder.path().join("digits/1/manifest.json");
    fs::remove_file(&file).unwrap();
    symlink("/nowhere/manifest.json", &file).unwrap();

    let store = FolderStore::open(folder.path()).unwrap();
    let [damaged] = store.versions(&model).unwrap().try_into().unwrap();
    assert_eq!((damaged.version, damaged.manifest), (1, None));
    let error = store.manifest(&model, 1).unwrap_err().to_string();
    assert!(
        error.contains("a link to /nowhere/manifest.json"),
        "{error}"
    );
    store.delete(&model, 1).unwrap();
    assert_eq!(numbers(&store, &model), Vec::<u64>::new());
}

#[test]
fn readers_take_no_lock_see_every_change_and_make_none() {
    let folder = tempfile::tempdir().unwrap();
    let model = name("digits");
    let writer = FolderStore::open(folder.path()).unwrap();
    let reader = FolderStore::read_only(folder.path());
    assert!(reader.is_shared() && !writer.is_shared());
    assert!(reader.states().unwrap().is_empty());
    let mut last = reader.states().unwrap();
    let steps: [(&str, &dyn Fn()); 5] = [
        ("a commit", &|| {
            assert_eq!(writer.commit(&model, b"one", &manifest(b"one")).unwrap(), 1);
        }),
        ("an activation", &|| writer.activate(&model, 1).unwrap()),
        ("another version", &|| {
            assert_eq!(writer.commit(&model, b"two", &manifest(b"two")).unwrap(), 2);
        }),
        ("its activation", &|| writer.activate(&model, 2).unwrap()),
        ("a deletion", &|| writer.delete(&model, 1).unwrap()),
    ];
    for (step, change) in steps {
        change();
        let now = reader.states().unwrap();
        assert_ne!(now, last, "{step}");
        assert_eq!(reader.states().unwrap(), now, "{step}");
        last = now;
    }
    fs::create_dir(folder.path().join("digits/3")).unwrap();
    assert_eq!(reader.states().unwrap(), last, "a half-written version");
    assert_eq!(reader.onnx(&model, 2, &manifest(b"two")).unwrap(), b"two");
    for result in [
        reader.commit(&model, b"new", &manifest(b"new")).map(drop),
        reader.delete(&model, 2),
        reader.delete_model(&model).map(drop),
    ] {
        assert!(matches!(result, Err(StoreError::ReadOnly)), "{result:?}");
    }
    reader.activate(&model, 2).expect("it is active already");
    assert_eq!(reader.states().unwrap(), last);

    let missing = FolderStore::read_only(&folder.path().join("missing"));
    assert!(missing.models().unwrap().is_empty());
    assert!(!folder.path().join("missing").exists());
}

#[test]
fn an_activation_that_another_one_overtook_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let model = name("digits");
    let store = FolderStore::open(folder.path()).unwrap();
    for bytes in [b"one", b"two"] {
        store.commit(&model, bytes, &manifest(bytes)).unwrap();
    }
    let before = store.active(&model).unwrap();
    store.activate(&model, 2).unwrap();
    let refused = store.replace_active(&model, 1, before).unwrap_err();
    assert!(matches!(refused, StoreError::Changed { .. }), "{refused}");
    assert_eq!(store.active(&model).unwrap().unwrap().version, 2);
    // What it asks for is done.
    store.replace_active(&model, 2, before).unwrap();
}

#[test]
fn a_signed_manifest_is_kept_byte_for_byte() {
    let folder = tempfile::tempdir().unwrap();
    let model = name("digits");
    let store = FolderStore::open(folder.path()).unwrap();
    // Not in the form in which this version writes it.
    let json = [&b"  "[..], &manifest(b"one").to_json()].concat();
    let signed = SignedManifest {
        json,
        signature: b"signature".to_vec(),
    };
    assert_eq!(store.commit_signed(&model, b"one", &signed).unwrap(), 1);
    assert_eq!(store.commit(&model, b"two", &manifest(b"two")).unwrap(), 2);
    let canary = store.commit_canary(&model, b"one", &manifest(b"one"), Some(&signed));
    assert_eq!(canary.unwrap(), 3);
    let stored = |version| store.signed_manifest(&model, version).unwrap();
    assert_eq!(stored(3), stored(1));
    assert_eq!(stored(1), (manifest(b"one"), Some(signed)));
    assert_eq!(stored(2), (manifest(b"two"), None));
    assert_eq!(store.manifest(&model, 1).unwrap(), manifest(b"one"));
    assert_eq!(store.onnx(&model, 1, &manifest(b"one")).unwrap(), b"one");
    assert!(matches!(
        store.signed_manifest(&model, 4),
        Err(StoreError::NoSuchVersion { version: 4, .. })
    ));
}
