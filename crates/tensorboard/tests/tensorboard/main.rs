//! Event files as the real TensorBoard reads them.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

use std::{
    fs,
    path::{Path, PathBuf},
};

use serde_json::json;
use tensorboard::{EventLog, event::Value, histogram};
use test_support::event_files::read;

fn append(log: &mut EventLog, step: u64) {
    let loss = Value::scalar("loss/train", 1.0 / step as f64);
    let weights = histogram(&[0.5, -0.5, step as f32]).unwrap();
    let weights = Value::histogram("weights/conv", weights);
    log.append(step, vec![loss, weights]).unwrap();
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap();
    let mut files: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

#[test]
fn scalars_and_histograms_are_read() {
    let folder = tempfile::tempdir().unwrap();
    let (mut log, _) = EventLog::open(folder.path(), None).unwrap();
    for step in [1, 2, 4] {
        append(&mut log, step);
    }
    let expected = json!({
        "scalars": {"loss/train": [[1, 1.0], [2, 0.5], [4, 0.25]]},
        "histograms": {"weights/conv": [[1, 3.0], [2, 3.0], [4, 3.0]]},
    });
    assert_eq!(read(folder.path()), expected);
}

#[test]
fn the_files_of_an_interrupted_run_hold_every_step_once() {
    let folder = tempfile::tempdir().unwrap();
    let (mut log, _) = EventLog::open(folder.path(), None).unwrap();
    for step in [1, 2, 4] {
        append(&mut log, step);
    }
    // The process is killed while it writes.
    let file = files(folder.path()).remove(0);
    let bytes = fs::read(&file).unwrap();
    fs::write(&file, &bytes[..bytes.len() - 9]).unwrap();
    let read_while_away = read(folder.path());
    assert_eq!(
        read_while_away["scalars"]["loss/train"],
        json!([[1, 1.0], [2, 0.5]])
    );
    let (mut log, last) = EventLog::open(folder.path(), Some(1)).unwrap();
    assert_eq!(last, Some(1));
    for step in [2, 4] {
        append(&mut log, step);
    }
    let expected = json!([[1, 1.0], [2, 0.5], [4, 0.25]]);
    assert_eq!(read(folder.path())["scalars"]["loss/train"], expected);
}

#[test]
fn a_reader_that_has_seen_later_steps_forgets_them() {
    let folder = tempfile::tempdir().unwrap();
    let (mut log, _) = EventLog::open(folder.path(), None).unwrap();
    for step in [1, 2, 4] {
        append(&mut log, step);
    }
    let file = files(folder.path()).remove(0);
    let seen = fs::read(&file).unwrap();
    let (mut log, _) = EventLog::open(folder.path(), Some(1)).unwrap();
    append(&mut log, 2);
    // A reader that has read the first file before it was cut off.
    fs::write(&file, seen).unwrap();
    let expected = json!([[1, 1.0], [2, 0.5]]);
    assert_eq!(read(folder.path())["scalars"]["loss/train"], expected);
}
