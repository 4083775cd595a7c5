//! Packed recordings: an intact pack is unpacked to the same files, any other is rejected.

use std::{fs, path::Path};

use crate::support::{VIEWS, create, identity, record, write};
use proptest::{prelude::*, test_runner::TestRunner};
use soft_targets::{Recording, ShardId, StoreError, pack, unpack};
use tar::{Builder, EntryType, Header};
use test_support::damage::{cases, foreign, in_modest_memory};

fn files(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() {
            let inner = files(&path);
            found.extend(
                inner
                    .into_iter()
                    .map(|(file, bytes)| (format!("{name}/{file}"), bytes)),
            );
        } else if name != ".lock" {
            found.push((name, fs::read(&path).unwrap()));
        }
    }
    found.sort();
    found
}

#[test]
fn a_packed_recording_comes_back_byte_for_byte() {
    let folder = tempfile::tempdir().unwrap();
    let (here, there) = (folder.path().join("here"), folder.path().join("there"));
    let recording = record(&here, &identity("top-2"));
    let file = folder.path().join("targets.tar");
    let packed = pack(&recording, &file).unwrap();
    assert_eq!(packed.shards, 6);
    assert_eq!(packed.bytes, fs::metadata(&file).unwrap().len());
    let again = folder.path().join("again.tar");
    assert_eq!(pack(&recording, &again).unwrap().sha256, packed.sha256);

    let unpacked = unpack(&file, &there).unwrap();
    assert_eq!((unpacked.shards, &unpacked.sha256), (6, &packed.sha256));
    assert_eq!(files(&unpacked.path), files(recording.folder()));
    let error = unpack(&file, &there).unwrap_err();
    assert!(matches!(error, StoreError::AlreadyThere { .. }), "{error}");
}

#[test]
fn what_is_recorded_so_far_is_packed_but_nothing_damaged() {
    let folder = tempfile::tempdir().unwrap();
    let recording = create(&folder.path().join("here"), &identity("f16"));
    write(&recording, ShardId { view: 0, shard: 0 });
    write(&recording, ShardId { view: 1, shard: 2 });
    let file = folder.path().join("targets.tar");
    assert_eq!(pack(&recording, &file).unwrap().shards, 2);
    assert_eq!(
        unpack(&file, &folder.path().join("there")).unwrap().shards,
        2
    );

    let shard = recording
        .folder()
        .join(ShardId { view: 1, shard: 2 }.path());
    let mut bytes = fs::read(&shard).unwrap();
    bytes[30] ^= 1;
    fs::write(&shard, bytes).unwrap();
    let error = pack(&recording, &folder.path().join("bad.tar")).unwrap_err();
    assert!(matches!(error, StoreError::Faulty { .. }), "{error}");
    assert!(!folder.path().join("bad.tar").exists());
}

#[test]
fn a_pack_that_was_changed_or_cut_is_refused_and_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let recording = record(&folder.path().join("here"), &identity("f16"));
    let file = folder.path().join("targets.tar");
    pack(&recording, &file).unwrap();
    let whole = fs::read(&file).unwrap();
    let original = files(recording.folder());
    let bad = folder.path().join("bad.tar");
    let there = folder.path().join("there");
    let refused = |bytes: &[u8]| {
        fs::write(&bad, bytes).unwrap();
        let refused = match unpack(&bad, &there) {
            Err(_) => true,
            // The byte has no meaning: it is padding, or in a field such as the owner's name.
            Ok(unpacked) => {
                assert_eq!(files(&unpacked.path), original);
                fs::remove_dir_all(unpacked.path).unwrap();
                false
            }
        };
        assert_eq!(fs::read_dir(&there).unwrap().count(), 0);
        refused
    };
    let mut found = 0;
    for position in (0..whole.len()).step_by(23) {
        let mut flipped = whole.clone();
        flipped[position] ^= 1;
        found += usize::from(refused(&flipped));
    }
    assert!(found > 50, "{found}");
    // The two blocks of zeros at the end have no content.
    for length in (0..whole.len() - 1024).step_by(211) {
        assert!(refused(&whole[..length]), "cut at {length}");
    }
    assert!(!refused(&whole));
}

#[test]
fn a_foreign_pack_is_refused_or_is_the_recording() {
    let folder = tempfile::tempdir().unwrap();
    let recording = record(&folder.path().join("here"), &identity("top-2"));
    let (file, bad) = (
        folder.path().join("targets.tar"),
        folder.path().join("bad.tar"),
    );
    let there = folder.path().join("there");
    pack(&recording, &file).unwrap();
    let original = files(recording.folder());
    let packed = fs::read(&file).unwrap();
    let mut runner = TestRunner::new(cases(60));
    let outcome = runner.run(&foreign(vec![packed]), |bytes| {
        fs::write(&bad, bytes).unwrap();
        match in_modest_memory(|| unpack(&bad, &there)) {
            Ok(unpacked) => {
                let shards = |files: &[(String, Vec<u8>)]| -> Vec<_> {
                    let shards = files.iter().filter(|(name, _)| name.contains("shard-"));
                    shards.cloned().collect()
                };
                prop_assert_eq!(shards(&files(&unpacked.path)), shards(&original));
                let unpacked_recording = Recording::open(&unpacked.path).unwrap();
                prop_assert_eq!(unpacked_recording.identity(), recording.identity());
                fs::remove_dir_all(unpacked.path).unwrap();
            }
            Err(error) => prop_assert!(error.to_string().contains("bad.tar"), "{}", error),
        }
        prop_assert_eq!(fs::read_dir(&there).unwrap().count(), 0);
        Ok(())
    });
    outcome.unwrap_or_else(|failure| panic!("{failure}"));
}

#[test]
fn paths_links_and_surprises_in_a_pack_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let recording = record(&folder.path().join("here"), &identity("f16"));
    let description = fs::read(recording.folder().join("recording.json")).unwrap();
    let shard = fs::read(recording.folder().join("view-0000/shard-00000.safetensors")).unwrap();
    let contents = |text: &str| text.as_bytes().to_vec();
    let whole = contents(r#"{"format_version":2,"shards":[[0,0]]}"#);
    let normal = EntryType::Regular;
    let name = "view-0000/shard-00000.safetensors";
    type Entry<'e> = (EntryType, &'e str, &'e [u8]);
    let start: [Entry<'_>; 2] = [
        (normal, "recording.json", &description),
        (normal, "contents.json", &whole),
    ];
    let beyond = contents(r#"{"format_version":2,"shards":[[0,3]]}"#);
    let far = contents(r#"{"format_version":2,"shards":[[4294967295,0]]}"#);
    let newer = contents(r#"{"format_version":3,"pieces":[]}"#);
    let longer = [&shard[..], b"more"].concat();
    let cases: [(Vec<Entry<'_>>, &str); 11] = [
        (vec![], "ends before recording.json"),
        (
            vec![(normal, "../recording.json", &description)],
            "`../recording.json`",
        ),
        (
            vec![(normal, "/etc/recording.json", &description)],
            "`/etc/recording.json`",
        ),
        (
            vec![(EntryType::Symlink, "recording.json", b"")],
            "`recording.json`",
        ),
        (
            [&start[..], &[(normal, "view-0000/../../evil", &shard)]].concat(),
            "evil",
        ),
        ([&start[..], &[(EntryType::Link, name, b"")]].concat(), name),
        (
            [&start[..], &[(normal, name, &longer)]].concat(),
            "bytes instead of",
        ),
        (
            [
                &start[..],
                &[(normal, name, &shard), (normal, "extra", b"x")],
            ]
            .concat(),
            "more than its contents say",
        ),
        (
            vec![
                start[0],
                (normal, "contents.json", &beyond),
                (normal, name, &shard),
            ],
            "no shard 3",
        ),
        (
            vec![start[0], (normal, "contents.json", &far)],
            "at most 10000 views",
        ),
        (
            vec![start[0], (normal, "contents.json", &newer)],
            "contents.json: format_version 3 is newer",
        ),
    ];
    let there = folder.path().join("there");
    for (entries, part) in cases {
        let bad = folder.path().join("bad.tar");
        fs::write(&bad, tar_of(&entries)).unwrap();
        let error = unpack(&bad, &there).unwrap_err().to_string();
        assert!(error.contains(part), "{part} is not in: {error}");
        assert!(error.contains("bad.tar"), "{error}");
        assert_eq!(fs::read_dir(&there).unwrap().count(), 0);
        assert!(!folder.path().join("evil").exists());
    }
    let good: Vec<_> = [&start[..], &[(normal, name, &shard)]].concat();
    let file = folder.path().join("good.tar");
    fs::write(&file, tar_of(&good)).unwrap();
    assert_eq!(unpack(&file, &there).unwrap().shards, 1);
    assert!(recording.faults(VIEWS).is_empty());
}

fn tar_of(entries: &[(EntryType, &str, &[u8])]) -> Vec<u8> {
    let mut tar = Builder::new(Vec::new());
    for (kind, path, bytes) in entries {
        let mut header = Header::new_ustar();
        // Sets the bytes directly, because the library rejects such paths.
        header.as_old_mut().name[..path.len()].copy_from_slice(path.as_bytes());
        header.set_size(bytes.len() as u64);
        header.set_entry_type(*kind);
        header.set_mode(0o644);
        header.set_cksum();
        tar.append(&header, *bytes).unwrap();
    }
    tar.into_inner().unwrap()
}
