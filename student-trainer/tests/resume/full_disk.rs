//! A disk that is full: a real one, of two megabytes of memory.

use std::{
    fs::{self, File},
    io::{ErrorKind, Read, Write},
    path::PathBuf,
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};

use crate::{
    scene::{Scene, checkpoints},
    support::{Process, eventually},
};

/// A file system in a mount namespace of its own: it goes away with the process that holds it.
struct SmallDisk {
    holder: Child,
    mount_point: PathBuf,
}

impl SmallDisk {
    fn mount(mount_point: PathBuf) -> Self {
        fs::create_dir(&mount_point).unwrap();
        let script = "mount -t tmpfs -o size=2m tmpfs \"$0\" && echo mounted && exec sleep 1000";
        let mut command = Command::new("unshare");
        command.arg("--mount");
        if !is_root() {
            command.args(["--user", "--map-root-user"]);
        }
        command.args(["sh", "-c", script]).arg(&mount_point);
        let holder = command.stdout(Stdio::piped()).spawn();
        let mut holder = holder.unwrap_or_else(|error| panic!("unshare: {error}"));
        let mut said = [0; 7];
        let mounted = holder.stdout.as_mut().unwrap().read_exact(&mut said);
        assert!(
            mounted.is_ok(),
            "NOT TESTED: this machine lets nobody mount a tmpfs, so no disk can be filled; run the \
             test as root, or where user namespaces are allowed"
        );
        Self {
            holder,
            mount_point,
        }
    }

    /// `command` where the file system is there.
    fn inside(&self, command: &Command) -> Command {
        let mut inside = Command::new("nsenter");
        inside.args(["--mount", "--target", &self.holder.id().to_string()]);
        if !is_root() {
            inside.args(["--user", "--preserve-credentials"]);
        }
        inside.arg("--");
        inside.arg(command.get_program()).args(command.get_args());
        inside
    }

    /// A path on it, as seen from here.
    fn path(&self, name: &str) -> PathBuf {
        let root = format!("/proc/{}/root", self.holder.id());
        let mount_point = self.mount_point.strip_prefix("/").unwrap();
        PathBuf::from(root).join(mount_point).join(name)
    }

    /// Takes what room is left, again and again, until `done`.
    fn fill_until(&self, mut done: impl FnMut() -> bool) {
        let mut filler = File::create(self.path("filler")).unwrap();
        let page = [1; 4096];
        while !done() {
            match filler.write_all(&page) {
                Ok(()) => {}
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::StorageFull, "{error}");
                    thread::sleep(Duration::from_millis(1));
                }
            }
        }
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}

fn is_root() -> bool {
    let id = Command::new("id").arg("-u").output().unwrap();
    id.stdout.trim_ascii() == b"0"
}

#[test]
fn a_full_disk_stops_a_run_with_everything_before_it_intact() {
    let scene = Scene::new();
    let teacher = scene.teacher();
    let undisturbed = scene.finish("undisturbed", &[&teacher], &[]);

    let disk = SmallDisk::mount(scene.path("disk"));
    let start = || Process::start(disk.inside(&scene.command("disk/run", &[&teacher], &[])));
    let mut process = start();
    let metrics = disk.path("run/metrics.jsonl");
    eventually("an epoch", || {
        let text = fs::read_to_string(&metrics).unwrap_or_default();
        text.contains("epoch_finished").then_some(())
    });
    disk.fill_until(|| !process.is_running());
    assert_eq!(process.wait().code(), Some(1), "{}", process.stderr());
    let said = process.stderr();
    assert!(said.contains("No space left on device"), "{said}");

    let run = disk.path("run");
    let files = checkpoints(&run);
    assert!(!files.is_empty());
    for file in &files {
        let name = file.file_name().unwrap().to_str().unwrap();
        assert!(name.starts_with("step-"), "{name} is left over");
    }
    let log = fs::read_to_string(&metrics).unwrap();
    assert!(log.ends_with('\n'), "a cut-off line is left over");

    // Still full: it says so again, and spoils nothing.
    let mut again = start();
    assert_eq!(again.wait().code(), Some(1), "{}", again.stderr());
    assert!(again.stderr().contains("No space left on device"));

    fs::remove_file(disk.path("filler")).unwrap();
    let mut process = start();
    assert!(process.wait().success(), "{}", process.stderr());
    assert_eq!(scene.result_in(&run), undisturbed);
}
