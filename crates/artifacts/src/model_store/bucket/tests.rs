use std::{collections::HashSet, path::PathBuf, sync::Arc, thread, time::Duration};

use futures::TryStreamExt;
use object_store::{ObjectStore, ObjectStoreExt, memory::InMemory};
use tempfile::TempDir;
use test_support::FaultyStore;

use super::*;
use crate::model_store::test_model::{manifest, name};

/// A bucket without a server. Every process has a cache of its own.
struct TestBucket {
    objects: Arc<InMemory>,
    folder: TempDir,
}

impl TestBucket {
    fn new() -> Self {
        Self {
            objects: Arc::default(),
            folder: tempfile::tempdir().unwrap(),
        }
    }

    /// A bucket whose only model has version 1, which is active.
    fn with_model(model: &ModelName) -> Self {
        let bucket = Self::new();
        let store = bucket.open();
        assert_eq!(store.commit(model, b"one", &manifest(b"one")).unwrap(), 1);
        store.activate(model, 1).unwrap();
        bucket
    }

    fn open(&self) -> BucketStore {
        self.open_over(Arc::clone(&self.objects) as _, Access::ReadWrite)
            .unwrap()
    }

    fn open_over(
        &self,
        objects: Arc<dyn ObjectStore>,
        access: Access,
    ) -> Result<BucketStore, StoreError> {
        let options = StoreOptions {
            access,
            cache: self.cache(),
            max_cache_bytes: 1 << 20,
            patience: Duration::from_secs(60),
        };
        let bucket = Bucket::over(objects, "s3://bucket/models".to_owned(), options.patience)?;
        BucketStore::over(bucket, &options)
    }

    /// A process that is killed after some requests.
    fn dying(&self, requests: usize, loses_reply: bool) -> Result<BucketStore, StoreError> {
        let objects = FaultyStore::killed_after(requests, loses_reply, &self.objects);
        self.open_over(objects, Access::ReadWrite)
    }

    fn cache(&self) -> PathBuf {
        tempfile::tempdir_in(self.folder.path()).unwrap().keep()
    }

    fn names(&self) -> Vec<String> {
        let listed = futures::executor::block_on(self.objects.list(None).try_collect::<Vec<_>>());
        let names = listed.unwrap().into_iter();
        names.map(|object| object.location.to_string()).collect()
    }
}

fn active_version(store: &BucketStore, model: &ModelName) -> Option<u64> {
    let active = store.active(model).unwrap();
    active.map(|active| active.version)
}

type Publish = fn(&BucketStore, &ModelName, &[u8]) -> Result<u64, StoreError>;

/// What a publisher does, with the active version that it saw first.
fn publish(store: &BucketStore, model: &ModelName, onnx: &[u8]) -> Result<u64, StoreError> {
    publish_as(store, model, onnx, || {
        store.commit(model, onnx, &manifest(onnx))
    })
}

fn publish_signed(store: &BucketStore, model: &ModelName, onnx: &[u8]) -> Result<u64, StoreError> {
    publish_as(store, model, onnx, || {
        store.commit_signed(model, onnx, &signed(onnx))
    })
}

fn publish_as(
    store: &BucketStore,
    model: &ModelName,
    onnx: &[u8],
    commit: impl FnOnce() -> Result<u64, StoreError>,
) -> Result<u64, StoreError> {
    let before = store.active(model)?;
    let version = match store.find(model, &manifest(onnx))? {
        Some(version) => version,
        None => commit()?,
    };
    store.replace_active(model, version, before)?;
    Ok(version)
}

/// A signature, and a manifest that is not in the form in which this version writes it.
fn signed(onnx: &[u8]) -> SignedManifest {
    SignedManifest {
        json: [&b"  "[..], &manifest(onnx).to_json()].concat(),
        signature: [&b"signature of "[..], onnx].concat(),
    }
}

#[test]
fn a_canary_counts_as_served_and_the_active_version_stays() {
    let model = name("digits");
    let bucket = TestBucket::with_model(&model);
    let store = bucket.open();
    let canary = store.commit_canary(&model, b"two", &manifest(b"two"), Some(&signed(b"two")));
    assert_eq!(canary.unwrap(), 2);
    let (_, signature) = store.signed_manifest(&model, 2).unwrap();
    assert_eq!(signature, Some(signed(b"two")));
    let active = store.active(&model).unwrap().unwrap();
    assert_eq!((active.version, active.newest_served), (1, 2));
    // Noting it again changes nothing, not even the tag that readers compare.
    let before = store.states().unwrap();
    store.note_served(&model, 2).unwrap();
    assert_eq!(store.states().unwrap(), before);
    store.activate(&model, 2).unwrap();
    assert_ne!(store.states().unwrap(), before);
}

#[test]
fn versions_are_numbered_kept_and_activated() {
    let model = name("digits");
    let bucket = TestBucket::with_model(&model);
    let store = bucket.open();
    assert_eq!(store.commit(&model, b"two", &manifest(b"two")).unwrap(), 2);
    assert_eq!(active_version(&store, &model), Some(1));
    store.activate(&model, 2).unwrap();
    store.activate(&model, 1).unwrap();

    let store = bucket.open();
    assert_eq!(store.models().unwrap(), std::slice::from_ref(&model));
    assert_eq!(store.version_numbers(&model).unwrap(), [1, 2]);
    let active = store.active(&model).unwrap().unwrap();
    assert_eq!((active.version, active.newest_served), (1, 2));
    assert_eq!(store.manifest(&model, 2).unwrap(), manifest(b"two"));
    assert_eq!(store.onnx(&model, 2, &manifest(b"two")).unwrap(), b"two");
    assert_eq!(store.find(&model, &manifest(b"one")).unwrap(), Some(1));
    assert_eq!(store.find(&model, &manifest(b"new")).unwrap(), None);
    assert!(matches!(
        store.activate(&model, 3),
        Err(StoreError::NoSuchVersion { version: 3, .. })
    ));
}

#[test]
fn a_file_of_several_parts_comes_back_whole() {
    let model = name("digits");
    let bucket = TestBucket::new();
    let onnx: Vec<u8> = (0..(17 << 20)).map(|i| (i / 3) as u8).collect();
    let store = bucket.open();
    let version = store.commit(&model, &onnx, &manifest(&onnx)).unwrap();
    // The file is too large for the cache.
    let found = bucket.open().onnx(&model, version, &manifest(&onnx));
    assert!(found.unwrap() == onnx);
}

#[test]
fn writers_at_the_same_time_get_different_numbers_and_one_of_them_activates() {
    const WRITERS: u64 = 8;
    let model = name("digits");
    let bucket = TestBucket::with_model(&model);
    let before = bucket.open().active(&model).unwrap();
    let results: Vec<_> = thread::scope(|scope| {
        let (bucket, model) = (&bucket, &model);
        let writers: Vec<_> = (0..WRITERS)
            .map(|writer| {
                scope.spawn(move || {
                    let onnx = writer.to_le_bytes();
                    let store = bucket.open();
                    let signed = (writer % 2 == 0).then(|| signed(&onnx));
                    let version = match &signed {
                        Some(signed) => store.commit_signed(model, &onnx, signed),
                        None => store.commit(model, &onnx, &manifest(&onnx)),
                    };
                    let version = version.unwrap();
                    let stored = store.signed_manifest(model, version).unwrap();
                    assert_eq!(stored, (manifest(&onnx), signed));
                    (version, store.replace_active(model, version, before))
                })
            })
            .collect();
        let ended = writers.into_iter().map(|writer| writer.join().unwrap());
        ended.collect()
    });
    let numbers: HashSet<u64> = results.iter().map(|(version, _)| *version).collect();
    assert_eq!(numbers, (2..2 + WRITERS).collect());
    let winners: Vec<_> = results.iter().filter(|(_, done)| done.is_ok()).collect();
    let [(winner, _)] = winners[..] else {
        panic!("{results:?}");
    };
    let store = bucket.open();
    assert_eq!(active_version(&store, &model), Some(*winner));
    for (version, done) in &results {
        let lost = matches!(done, Err(StoreError::Changed { .. }));
        assert_eq!(lost, version != winner, "{results:?}");
        // A second attempt sees what the winner did.
        store.activate(&model, *version).unwrap();
    }
}

#[test]
fn readers_see_every_change_and_no_other() {
    let model = name("digits");
    let bucket = TestBucket::with_model(&model);
    let reader = bucket
        .open_over(Arc::clone(&bucket.objects) as _, Access::ReadOnly)
        .unwrap();
    let writer = bucket.open();
    let mut last = reader.states().unwrap();
    assert_eq!(reader.states().unwrap(), last);
    let steps: [(&str, &dyn Fn()); 4] = [
        ("a commit", &|| {
            assert_eq!(writer.commit(&model, b"two", &manifest(b"two")).unwrap(), 2);
        }),
        ("an activation", &|| writer.activate(&model, 2).unwrap()),
        ("a roll-back", &|| writer.activate(&model, 1).unwrap()),
        ("a deletion", &|| writer.delete(&model, 2).unwrap()),
    ];
    for (step, change) in steps {
        change();
        let now = reader.states().unwrap();
        assert_ne!(now, last, "{step}");
        last = now;
    }
    // It is active already.
    writer.activate(&model, 1).unwrap();
    assert_eq!(reader.states().unwrap(), last);
    writer.delete_model(&model).unwrap();
    assert!(reader.states().unwrap().is_empty());
    assert!(reader.models().unwrap().is_empty());

    let two = signed(b"two");
    for result in [
        reader.commit(&model, b"two", &manifest(b"two")).map(drop),
        reader.commit_signed(&model, b"two", &two).map(drop),
        reader.delete(&model, 1),
        reader.delete_model(&model).map(drop),
    ] {
        assert!(matches!(result, Err(StoreError::ReadOnly)), "{result:?}");
    }
}

#[test]
fn a_writer_that_is_killed_at_any_step_leaves_the_old_version_or_the_new_one() {
    let is_signed_or_not: [(Publish, _); 2] =
        [(publish, None), (publish_signed, Some(signed(b"two")))];
    for (publish_two, expected) in is_signed_or_not {
        for loses_reply in [false, true] {
            publish_at_every_step(publish_two, expected.as_ref(), loses_reply);
        }
    }
}

/// Kills `publish_two` after every number of requests.
fn publish_at_every_step(
    publish_two: Publish,
    expected: Option<&SignedManifest>,
    loses_reply: bool,
) {
    let model = name("digits");
    for requests in 0.. {
        let is_signed = expected.is_some();
        let case = format!("{requests} requests, {loses_reply}, signed: {is_signed}");
        let bucket = TestBucket::with_model(&model);
        let publish_and_die = || publish_two(&bucket.dying(requests, loses_reply)?, &model, b"two");
        let published = publish_and_die();

        let store = bucket.open();
        let serving = active_version(&store, &model).expect(&case);
        assert!(serving == 1 || serving == 2, "{case}: {serving}");
        assert!(published.is_err() || serving == 2, "{case}");
        let (stored, signed) = store.signed_manifest(&model, serving).expect(&case);
        let expected = expected.filter(|_| serving == 2);
        assert_eq!(signed.as_ref(), expected, "{case}");
        let onnx = store.onnx(&model, serving, &stored).expect(&case);
        assert_eq!(Sha256::of(&onnx), stored.onnx.sha256, "{case}");

        // The publisher tries again, with the same model or with another one.
        assert_eq!(publish_two(&store, &model, b"two").expect(&case), 2);
        assert_eq!(publish(&store, &model, b"three").expect(&case), 3);
        let numbers = store.version_numbers(&model).expect(&case);
        assert_eq!(numbers, [1, 2, 3], "{case}");
        if published.is_ok() {
            assert!(requests > 5, "a publish takes more requests");
            break;
        }
    }
}

#[test]
fn a_signed_version_comes_back_byte_for_byte() {
    let model = name("digits");
    let bucket = TestBucket::with_model(&model);
    let version = publish_signed(&bucket.open(), &model, b"two").unwrap();
    let store = bucket.open();
    let stored = |version| store.signed_manifest(&model, version).unwrap();
    assert_eq!(stored(version), (manifest(b"two"), Some(signed(b"two"))));
    assert_eq!(stored(1), (manifest(b"one"), None));
    assert_eq!(store.onnx(&model, 2, &manifest(b"two")).unwrap(), b"two");
    let path = Path::from("digits/2/manifest.json");
    let manifest = store.objects.read(&path).unwrap().unwrap().bytes;
    assert_eq!(manifest, signed(b"two").json);

    store.activate(&model, 1).unwrap();
    store.delete(&model, 2).unwrap();
    assert!(matches!(
        store.signed_manifest(&model, 2),
        Err(StoreError::NoSuchVersion { version: 2, .. })
    ));
}

#[test]
fn the_signature_of_a_writer_that_ended_is_never_that_of_another_version() {
    let model = name("digits");
    let bucket = TestBucket::with_model(&model);
    let store = bucket.open();
    let digest = Sha256::of(&signed(b"two").json);
    let leave_signature = |version| {
        let path = names::signature(&model, version, &digest);
        assert!(
            store
                .create(&path, &Bytes::from_static(b"of another key"))
                .unwrap()
        );
    };
    let signature = |version| store.signed_manifest(&model, version).unwrap().1;
    leave_signature(2);
    let unsigned = store.commit(&model, b"new", &manifest(b"new"));
    assert_eq!(unsigned.unwrap(), 2);
    assert_eq!(signature(2), None);

    leave_signature(3);
    let other = store.commit_signed(&model, b"other", &signed(b"other"));
    assert_eq!(other.unwrap(), 3);
    assert_eq!(signature(3), Some(signed(b"other")));

    // The same manifest with another signature: the number is left out.
    leave_signature(4);
    let same = store.commit_signed(&model, b"two", &signed(b"two"));
    assert_eq!(same.unwrap(), 5);
    assert_eq!(signature(5), Some(signed(b"two")));
    assert_eq!(store.version_numbers(&model).unwrap(), [1, 2, 3, 5]);
}

#[test]
fn a_deletion_that_is_killed_at_any_step_leaves_a_whole_model_or_none() {
    let model = name("digits");
    for loses_reply in [false, true] {
        for requests in 0.. {
            let case = format!("{requests} requests, loses_reply = {loses_reply}");
            let bucket = TestBucket::with_model(&model);
            publish(&bucket.open(), &model, b"two").unwrap();
            let delete_and_die = || bucket.dying(requests, loses_reply)?.delete_model(&model);
            let deleted = delete_and_die();
            let tidied = !bucket
                .names()
                .iter()
                .any(|name| name.ends_with("manifest.json"));

            let store = bucket.open();
            let versions = store.version_numbers(&model).expect(&case);
            match active_version(&store, &model) {
                Some(active) => assert_eq!((active, &versions[..]), (2, &[1, 2][..]), "{case}"),
                None => assert!(versions.is_empty(), "{case}: {versions:?}"),
            }
            assert!(deleted.is_err() || versions.is_empty(), "{case}");
            assert_eq!(publish(&store, &model, b"new").expect(&case), 3, "{case}");
            assert_eq!(active_version(&store, &model), Some(3), "{case}");
            if tidied {
                assert!(requests > 3, "a deletion takes more requests");
                break;
            }
        }
    }
}

/// The client repeats a request whose reply was lost; the answer says that the condition does not hold.
#[test]
fn a_writer_recognizes_its_own_success() {
    let model = name("digits");
    let bucket = TestBucket::with_model(&model);
    let store = bucket.open();
    let two = Bytes::from(manifest(b"two").to_json());
    assert_eq!(store.commit_from(&model, 2, &two, None).unwrap(), 2);
    assert_eq!(store.commit_from(&model, 2, &two, None).unwrap(), 2);
    let other = Bytes::from(manifest(b"other").to_json());
    assert_eq!(store.commit_from(&model, 2, &other, None).unwrap(), 3);

    let before = || store.read_active(&model).unwrap();
    let (found, stale) = (before(), before());
    let active = ActiveVersion::activated(found.as_ref().map(|(active, _)| *active), 2);
    store.write_active(&model, found, active).unwrap();
    store.write_active(&model, stale, active).unwrap();
    let stale = Some((
        active,
        UpdateVersion {
            e_tag: Some("\"stale\"".to_owned()),
            version: None,
        },
    ));
    let other = ActiveVersion::activated(Some(active), 3);
    let refused = store.write_active(&model, stale, other).unwrap_err();
    assert!(matches!(refused, StoreError::Changed { .. }), "{refused}");
    assert_eq!(active_version(&store, &model), Some(2));
}

#[test]
fn the_number_of_a_deleted_version_is_not_reused() {
    let model = name("digits");
    let bucket = TestBucket::with_model(&model);
    let store = bucket.open();
    // It never serves, but readers may have loaded it beside the active version.
    assert_eq!(store.commit(&model, b"two", &manifest(b"two")).unwrap(), 2);
    store.delete(&model, 2).unwrap();
    assert_eq!(store.version_numbers(&model).unwrap(), [1]);
    assert!(matches!(
        store.delete(&model, 2),
        Err(StoreError::NoSuchVersion { version: 2, .. })
    ));
    assert!(matches!(
        store.delete(&model, 1),
        Err(StoreError::Changed { .. })
    ));
    assert_eq!(publish(&store, &model, b"new").unwrap(), 3);

    assert_eq!(store.delete_model(&model).unwrap(), [1, 3]);
    assert_eq!(active_version(&store, &model), None);
    let again = store.delete_model(&model).unwrap_err();
    assert!(matches!(again, StoreError::NoSuchModel { .. }), "{again}");
    assert_eq!(publish(&store, &model, b"new").unwrap(), 4);
}

#[test]
fn a_model_is_read_from_the_cache_and_verified() {
    let model = name("digits");
    let bucket = TestBucket::with_model(&model);
    let stored = manifest(b"one");
    let reader = bucket.open();
    let upload = bucket.names().into_iter();
    let upload: Vec<String> = upload.filter(|name| name.ends_with(".onnx")).collect();
    let [upload] = &upload[..] else {
        panic!("{upload:?}");
    };
    let upload = Path::from(upload.as_str());
    let overwrite = |bytes: &'static [u8]| {
        futures::executor::block_on(bucket.objects.put(&upload, bytes.into())).unwrap();
    };
    for (damaged, problem) in [
        (&b"on1"[..], "its SHA-256 is"),
        (&b"longer"[..], "it has 6 bytes, the manifest says 3"),
    ] {
        overwrite(damaged);
        let error = reader.onnx(&model, 1, &stored).unwrap_err();
        assert!(error.is_damage(), "{error}");
        let error = error.to_string();
        let name = format!("s3://bucket/models/{upload}");
        assert!(error.contains(problem) && error.contains(&name), "{error}");
    }
    overwrite(b"one");
    assert_eq!(reader.onnx(&model, 1, &stored).unwrap(), b"one");
    futures::executor::block_on(bucket.objects.delete(&upload)).unwrap();
    assert_eq!(reader.onnx(&model, 1, &stored).unwrap(), b"one");
    let error = bucket.open().onnx(&model, 1, &stored).unwrap_err();
    assert!(error.is_damage(), "{error}");
}

#[test]
fn a_bucket_that_does_not_answer_is_unavailable_and_not_damaged() {
    let model = name("digits");
    let bucket = TestBucket::with_model(&model);
    let error = bucket.dying(0, false).unwrap_err();
    assert!(matches!(error, StoreError::Unavailable { .. }), "{error}");
    // One request opens it.
    let store = bucket.dying(1, false).unwrap();
    for error in [
        store.versions(&model).map(drop),
        store.find(&model, &manifest(b"one")).map(drop),
        store.stored(&model, 1).map(drop),
        store.signed_manifest(&model, 1).map(drop),
        store.active(&model).map(drop),
        store.activate(&model, 1),
    ] {
        let error = error.unwrap_err();
        assert!(matches!(error, StoreError::Unavailable { .. }), "{error}");
        assert!(!error.is_damage() && error.to_string().contains("s3://bucket/models"));
    }
}
