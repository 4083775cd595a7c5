//! Compute threads beside the processors that a run may use.

use test_support::wrapper::on_one_cpu;

use super::{Scene, stderr};

#[test]
fn more_threads_than_cpus_are_reported_and_as_many_are_not() {
    let scene = Scene::new();
    let said = |run: &str, threads: &str| {
        let settings = [threads, "device=cpu", "phases[0].epochs=1"];
        let done = on_one_cpu(&scene.command(run, &settings)).output().unwrap();
        let said = stderr(&done);
        assert!(done.status.success(), "{said}");
        said
    };
    let warned = said("two", "threads=2");
    let warning = "warning: threads = 2, but this process may use 1 CPU (";
    assert!(warned.contains(warning), "{warned}");
    assert!(warned.contains("set threads to 1"), "{warned}");
    for quiet in [said("one", "threads=1"), said("all", "threads=0")] {
        assert!(!quiet.contains("this process may use"), "{quiet}");
    }
}
