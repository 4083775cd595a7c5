//! A small disk that a test can fill: a tmpfs of a few megabytes.

use std::{
    fs::{self, File},
    io::{ErrorKind, Read, Write},
    path::PathBuf,
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};

use test_support::Process;

/// A file system in a separate mount namespace, which ends with the process that holds it.
pub struct SmallDisk {
    holder: Child,
    mount_point: PathBuf,
}

impl SmallDisk {
    /// Creates `mount_point` and mounts the file system there.
    ///
    /// # Panics
    /// If this user may not mount a file system.
    pub fn mount(mount_point: PathBuf, megabytes: u32) -> Self {
        fs::create_dir(&mount_point).unwrap();
        let script = format!(
            "mount -t tmpfs -o size={megabytes}m tmpfs \"$0\" && echo mounted && exec sleep 1000"
        );
        let mut command = Command::new("unshare");
        command.arg("--mount");
        if !is_root() {
            command.args(["--user", "--map-root-user"]);
        }
        command.args(["sh", "-c", &script]).arg(&mount_point);
        let holder = command.stdout(Stdio::piped()).spawn();
        let mut holder = holder.unwrap_or_else(|error| panic!("unshare: {error}"));
        let mut said = [0; 7];
        let mounted = holder.stdout.as_mut().unwrap().read_exact(&mut said);
        assert!(
            mounted.is_ok(),
            "NOT TESTED: this user may not mount a tmpfs, so the test has no disk to fill; run the \
             test as root, or where user namespaces are allowed"
        );
        Self {
            holder,
            mount_point,
        }
    }

    /// Wraps `command` so that it runs in the mount namespace of the file system.
    pub fn inside(&self, command: &Command) -> Command {
        let mut inside = Command::new("nsenter");
        inside.args(["--mount", "--target", &self.holder.id().to_string()]);
        if !is_root() {
            inside.args(["--user", "--preserve-credentials"]);
        }
        inside.arg("--");
        inside.arg(command.get_program()).args(command.get_args());
        inside
    }

    /// The path of a file on the disk, as this process sees it.
    pub fn path(&self, name: &str) -> PathBuf {
        let root = format!("/proc/{}/root", self.holder.id());
        let mount_point = self.mount_point.strip_prefix("/").unwrap();
        PathBuf::from(root).join(mount_point).join(name)
    }

    /// Suspends `process` and fills the disk, then continues `process` and keeps the disk full until it
    /// ends.
    pub fn fill_beside(&self, process: &mut Process) {
        let mut filler = File::create(self.path("filler")).unwrap();
        let piece = [1; 65_536];
        process.signal("STOP");
        let mut is_full = false;
        while !is_full || process.is_running() {
            match filler.write_all(&piece) {
                Ok(()) => {}
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::StorageFull, "{error}");
                    if !is_full {
                        process.signal("CONT");
                    }
                    is_full = true;
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
