//! A disk that is full: a real one, of a few megabytes of memory.

use std::{
    fs::{self, File},
    io::{ErrorKind, Read, Write},
    path::PathBuf,
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};

use test_support::Process;

/// A file system in a mount namespace of its own: it goes away with the process that holds it.
pub struct SmallDisk {
    holder: Child,
    mount_point: PathBuf,
}

impl SmallDisk {
    /// Mounts it at `mount_point`, which is made.
    ///
    /// # Panics
    /// Where nobody may mount a file system.
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
            "NOT TESTED: this machine lets nobody mount a tmpfs, so no disk can be filled; run the \
             test as root, or where user namespaces are allowed"
        );
        Self {
            holder,
            mount_point,
        }
    }

    /// `command` where the file system is there.
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

    /// A path on it, as seen from here.
    pub fn path(&self, name: &str) -> PathBuf {
        let root = format!("/proc/{}/root", self.holder.id());
        let mount_point = self.mount_point.strip_prefix("/").unwrap();
        PathBuf::from(root).join(mount_point).join(name)
    }

    /// Takes what room is left, while `process` stands still, and from then on again and again until
    /// it ends.
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
