//! `retort targets` on recordings on disk.

use std::{
    fs::File,
    io::pipe,
    path::Path,
    process::{Command, Output, Stdio},
};

use artifacts::manifest::TeacherIdentity;
use common::digest::Sha256;
use datasets::Augmentation;
use soft_targets::Encoder;
use soft_targets::{RecordedImages, Recording, RecordingIdentity, ViewSet};

fn retort(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_retort"));
    command.args(arguments).output().expect("retort starts")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Records two views of five images with three classes, in shards of two images.
fn record(store: &Path) -> Recording {
    let identity = RecordingIdentity {
        teacher: TeacherIdentity {
            model_id: "ab".repeat(32),
            numerics: "f32".into(),
            probe_sha256: "cd".repeat(32),
        },
        images: RecordedImages {
            fingerprint: "ef".repeat(32),
            samples: 5,
            classes: 3,
        },
        views: ViewSet {
            seed: 1,
            augmentation: Augmentation::default(),
            input: vec![1, 28, 28],
            probe_sha256: Sha256::of(b"views"),
        },
        encoding: "f16".parse().expect("an encoding"),
    };
    let recording = Recording::open_or_create(store, &identity, 2, &[]).expect("it is made");
    let lock = recording.lock().expect("no other writer");
    for id in recording.shards(2) {
        let logits = vec![1.0; recording.samples(id.shard).len() * 3];
        let targets = Encoder::default().encode(identity.encoding, &logits, 3);
        let targets = targets.expect("they can be encoded");
        recording.write(id, &targets, &lock).expect("it is written");
    }
    recording
}

#[test]
fn recordings_are_listed_verified_packed_and_unpacked() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = |name: &str| folder.path().join(name).display().to_string();
    let (here, there, file) = (path("here"), path("there"), path("targets.tar"));
    let recording = record(Path::new(&here));
    let listed = text(&retort(&["targets", "list", &here]).stdout);
    for part in [recording.name().as_str(), "6 of 6", "f16", "pad 0"] {
        assert!(listed.contains(part), "{listed}");
    }
    let one = recording.folder().display().to_string();
    for place in [&here, &one] {
        let verified = retort(&["targets", "verify", place]);
        assert!(verified.status.success());
        assert!(text(&verified.stdout).contains("6 of 6 shards are intact"));
    }
    let packed = retort(&["targets", "pack", &one, "--output", &file]);
    assert!(packed.status.success(), "{}", text(&packed.stderr));
    let unpacked = retort(&["targets", "unpack", &file, "--into", &there]);
    assert!(unpacked.status.success(), "{}", text(&unpacked.stderr));
    let sha256 = |output: &Output| text(&output.stdout).rsplit(' ').next().map(str::to_owned);
    assert_eq!(sha256(&packed), sha256(&unpacked));
    assert!(text(&retort(&["targets", "verify", &there]).stdout).contains("6 of 6"));
    let again = retort(&["targets", "unpack", &file, "--into", &there]);
    assert_eq!(again.status.code(), Some(1));
    assert!(text(&again.stderr).contains("already exists"));
}

#[test]
fn a_damaged_shard_is_named() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = folder.path().join("targets");
    let recording = record(&store);
    let shard = recording.folder().join("view-0001/shard-00002.safetensors");
    let mut bytes = std::fs::read(&shard).expect("it is there");
    *bytes.last_mut().expect("it is not empty") ^= 1;
    std::fs::write(&shard, bytes).expect("it can be written");
    std::fs::remove_file(recording.folder().join("view-0000/shard-00000.safetensors"))
        .expect("it is there");
    let verified = retort(&["targets", "verify", &store.display().to_string()]);
    assert_eq!(verified.status.code(), Some(1));
    let said = text(&verified.stdout);
    for part in [
        "view-0001/shard-00002.safetensors is damaged",
        "view-0000/shard-00000.safetensors is not recorded",
        "4 of 6 shards are intact, 1 missing, 1 damaged",
    ] {
        assert!(said.contains(part), "{part} is not in: {said}");
    }
    assert!(text(&verified.stderr).contains("2 shards cannot be used"));
}

#[test]
fn what_is_no_recording_is_said() {
    let folder = tempfile::tempdir().expect("a folder");
    let nothing = folder.path().display().to_string();
    let verified = retort(&["targets", "verify", &nothing]);
    assert_eq!(verified.status.code(), Some(1));
    assert!(text(&verified.stderr).contains("holds no recording"));
    let sizes = text(&retort(&["targets", "sizes"]).stdout);
    assert!(
        sizes.contains("21841 classes") && sizes.contains("87364") && sizes.contains("sampled-50"),
        "{sizes}"
    );
}

#[test]
fn the_url_of_a_bucket_is_not_taken_for_a_folder() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = folder.path().join("targets");
    let recording = record(&store);
    let one = recording.folder().display().to_string();
    let url = "s3://bucket/targets";
    for arguments in [
        &["targets", "list", url][..],
        &["targets", "verify", url],
        &["targets", "pack", url, "--output", "targets.tar"],
        &[
            "targets",
            "pack",
            &one,
            "--output",
            "s3://bucket/targets.tar",
        ],
        &[
            "targets",
            "unpack",
            "s3://bucket/targets.tar",
            "--into",
            "here",
        ],
        &["targets", "unpack", "targets.tar", "--into", url],
    ] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_retort"));
        let command = command.args(arguments).current_dir(folder.path());
        let output = command.output().expect("retort starts");
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(64), "{said}");
        assert!(
            said.contains("s3://bucket/targets") && said.contains("no file or folder"),
            "{said}"
        );
    }
    // Nothing but the recording is there.
    assert_eq!(
        std::fs::read_dir(folder.path()).expect("it exists").count(),
        1
    );
    let listed = retort(&["targets", "list", &format!("file://{}", store.display())]);
    assert!(text(&listed.stdout).contains("6 of 6"));
}

/// Runs `retort` with `stdout` as its standard output. Returns exit code and standard error.
fn retort_into(stdout: impl Into<Stdio>, arguments: &[&str]) -> (Option<i32>, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_retort"));
    let output = command.args(arguments).stdout(stdout).output();
    let output = output.expect("retort starts");
    (output.status.code(), text(&output.stderr))
}

#[test]
fn a_result_that_cannot_be_printed_ends_quietly_in_a_pipe_and_else_with_an_error() {
    let folder = tempfile::tempdir().expect("a folder");
    let tokens = folder.path().join("tokens.toml");
    let recordings = folder.path().join("recordings");
    record(&recordings);
    let (tokens_file, recordings) = (
        tokens.display().to_string(),
        recordings.display().to_string(),
    );
    let create = ["tokens", "create", "--name", "ci", "--scope", "admin"];
    let create = [&create[..], &["--tokens-file", &tokens_file]].concat();
    for arguments in [
        &["targets", "sizes"][..],
        &["targets", "list", &recordings],
        &["targets", "verify", &recordings],
        &["--help"],
        &["--version"],
        &create,
    ] {
        let (reader, closed_pipe) = pipe().expect("a pipe");
        drop(reader);
        let (code, said) = retort_into(closed_pipe, arguments);
        assert_eq!((code, &*said), (Some(141), ""), "{arguments:?}");
        let full = File::options().write(true).open("/dev/full");
        let (code, said) = retort_into(full.expect("it is there"), arguments);
        assert_eq!(code, Some(1), "{arguments:?}: {said}");
        assert!(
            said.contains("cannot write the result to standard output"),
            "{said}"
        );
        assert_eq!(said.lines().count(), 1, "{said}");
    }
    let (code, said) = retort_into(Stdio::null(), &create);
    assert_eq!(code, Some(64), "{said}");
    assert!(!tokens.exists(), "a token was stored without being shown");
    let created = retort(&create);
    assert_eq!(text(&created.stdout).lines().count(), 1, "{created:?}");
    assert!(tokens.exists());
}

#[test]
fn a_damaged_recording_is_named_and_counted_and_hides_no_other() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = folder.path().join("targets");
    let recording = record(&store);
    let damaged = store.join("damaged");
    std::fs::create_dir(&damaged).expect("it is made");
    std::fs::write(damaged.join("recording.json"), "").expect("it is written");
    let place = store.display().to_string();

    let listed = retort(&["targets", "list", &place]);
    assert_eq!(listed.status.code(), Some(0));
    assert!(text(&listed.stdout).contains(&recording.name()));
    let warned = text(&listed.stderr);
    assert!(warned.contains(&damaged.display().to_string()), "{warned}");
    assert!(
        warned.contains("1 of 2 recordings cannot be read"),
        "{warned}"
    );

    let verified = retort(&["targets", "verify", &place]);
    assert_eq!(verified.status.code(), Some(1));
    let said = text(&verified.stdout);
    assert!(said.contains(&damaged.display().to_string()), "{said}");
    assert!(said.contains("6 of 6 shards are intact"), "{said}");
    let error = text(&verified.stderr);
    assert!(
        error.contains("1 recordings cannot be read, 0 shards"),
        "{error}"
    );
}
