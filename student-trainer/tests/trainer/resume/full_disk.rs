//! Runs whose disk is full.

use std::fs;
use test_support::{Process, eventually};

use super::scene::{Scene, checkpoints};
use crate::small_disk::SmallDisk;

#[test]
fn a_full_disk_stops_a_run_with_everything_before_it_intact() {
    let scene = Scene::new();
    let teacher = scene.teacher();
    let undisturbed = scene.finish("undisturbed", &[&teacher], &[]);

    let disk = SmallDisk::mount(scene.path("disk"), 2);
    let start = || Process::start(disk.inside(&scene.command("disk/run", &[&teacher], &[])));
    let mut process = start();
    let metrics = disk.path("run/metrics.jsonl");
    eventually("an epoch", || {
        let text = fs::read_to_string(&metrics).unwrap_or_default();
        text.contains("epoch_finished").then_some(())
    });
    disk.fill_beside(&mut process);
    assert_eq!(process.wait().code(), Some(1), "{}", process.stderr());
    let said = process.stderr();
    assert!(said.contains("No space left on device"), "{said}");

    let run = disk.path("run");
    let files = checkpoints(&run);
    assert!(!files.is_empty());
    for file in &files {
        let name = file.file_name().unwrap().to_str().unwrap();
        assert!(name.starts_with("step-"), "{name} was not removed");
    }
    let log = fs::read_to_string(&metrics).unwrap();
    assert!(log.ends_with('\n'), "the log ends with an incomplete line");

    // The disk is still full: the run reports that again and damages nothing.
    let mut again = start();
    assert_eq!(again.wait().code(), Some(1), "{}", again.stderr());
    assert!(again.stderr().contains("No space left on device"));

    fs::remove_file(disk.path("filler")).unwrap();
    let mut process = start();
    assert!(process.wait().success(), "{}", process.stderr());
    assert_eq!(scene.result_in(&run), undisturbed);
}
