//! A file that takes long to open.

use std::{
    io::{BufRead, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
};

/// A regular file; whoever opens it waits until this is dropped, or for the kernel's lease-break-time
/// (45 s).
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
        let said = child.stdout.take().expect("it is a pipe");
        let read = BufReader::new(said).read_line(&mut held);
        read.expect("it says that it holds the file");
        assert_eq!(held, "held\n");
        Self(child)
    }
}

impl Drop for HeldFile {
    fn drop(&mut self) {
        // Its end gives the file free. It may have ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
