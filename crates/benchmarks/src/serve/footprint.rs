//! The footprint of a running service: start time, memory, idle processor time, disk.

use std::{
    fs, io,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::Context;
use serde::Serialize;

use crate::{cpu_time::cpu_seconds, series::Series};

const IDLE: Duration = Duration::from_secs(10);

/// The footprint with the demo's student.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Footprint {
    /// Time from the process's start until it serves, milliseconds.
    pub ready_ms: Series,
    /// Resident memory after a load of 64 callers, MB of 10^6 bytes.
    pub resident_mb: f64,
    /// Size of the program, without debug information if `strip` is available, MB.
    pub program_mb: f64,
    /// Size of libonnxruntime.so, MB.
    pub onnx_runtime_mb: f64,
    /// Processor time in ten seconds without calls, seconds.
    pub idle_cpu_seconds: f64,
}

/// Measures the service with process id `pid`, right after a load.
pub(super) async fn of(pid: u32, ready_ms: Vec<f64>) -> anyhow::Result<Footprint> {
    let process = PathBuf::from(format!("/proc/{pid}"));
    let resident_mb = resident_kib(&process)? as f64 * 1024.0 / 1e6;
    let before = cpu_seconds(pid)?;
    tokio::time::sleep(IDLE).await;
    let idle_cpu_seconds = cpu_seconds(pid)? - before;
    let megabytes = |path: &Path| -> anyhow::Result<f64> {
        let metadata = fs::metadata(path).with_context(|| path.display().to_string())?;
        Ok(metadata.len() as f64 / 1e6)
    };
    let stripped = tempfile::NamedTempFile::new().context("cannot create a file")?;
    let program = process.join("exe");
    let program_mb = match strip(&program, stripped.path()) {
        Ok(()) => megabytes(stripped.path())?,
        Err(_) => megabytes(&program)?,
    };
    Ok(Footprint {
        // Cannot fail: the service was started at least once.
        ready_ms: Series::of(ready_ms).expect("there is a turn"),
        resident_mb,
        program_mb,
        onnx_runtime_mb: megabytes(&onnx_runtime(&process)?)?,
        idle_cpu_seconds,
    })
}

fn resident_kib(process: &Path) -> anyhow::Result<u64> {
    let path = process.join("status");
    let status = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.trim().strip_suffix("kB")?.trim().parse().ok());
    kib.with_context(|| format!("{} has no VmRSS", path.display()))
}

/// Path of the library that the process has mapped.
fn onnx_runtime(process: &Path) -> anyhow::Result<PathBuf> {
    let path = process.join("maps");
    let maps = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    let mapped = maps
        .lines()
        .filter_map(|line| line.split_whitespace().nth(5));
    let library = mapped.map(PathBuf::from).find(|file| {
        let name = file.file_name().and_then(|name| name.to_str());
        name.is_some_and(|name| name.starts_with("libonnxruntime"))
    });
    library.with_context(|| format!("{} names no libonnxruntime", path.display()))
}

fn strip(program: &Path, output: &Path) -> io::Result<()> {
    let status = Command::new("strip")
        .arg("-o")
        .args([output, program])
        .stderr(Stdio::null())
        .status()?;
    if status.success() {
        Ok(())
    } else {
        Err(io::Error::other("strip failed"))
    }
}
