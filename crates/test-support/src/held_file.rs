//! A file on which `open` blocks.

use std::{
    io::{BufRead, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
};

/// A regular file with a lease on it: a process that opens the file waits until this value is dropped,
/// or until the kernel breaks the lease (45 s, `lease-break-time`).
pub struct HeldFile(Child);

impl HeldFile {
    pub fn hold(file: &Path) -> Self {
        let package = Path::new(env!("CARGO_MANIFEST_DIR"));
        let child = Command::new(package.join("../../.deps/python/bin/python"))
            .arg(package.join("src/hold.py"))
            .arg(file)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn();
        let mut child = child.expect("Python starts: scripts/setup --tests installs it");
        let mut held = String::new();
        let stdout = child.stdout.take().expect("it is a pipe");
        let read = BufReader::new(stdout).read_line(&mut held);
        read.expect("the script reports that it holds the file");
        assert_eq!(held, "held\n");
        Self(child)
    }
}

impl Drop for HeldFile {
    fn drop(&mut self) {
        // The lease ends with the process, which may have ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
