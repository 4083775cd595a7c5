//! What a running service takes of the machine: time to start, memory, idle processor time, disk.

use std::{
    fs, io,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use serde::Serialize;

use crate::{
    CliError,
    bench::{BenchError, series::Series},
};

const IDLE: Duration = Duration::from_secs(10);
/// Field numbers of /proc/PID/stat after the program's name (proc(5): 14 and 15, from 1).
const USER_TICKS: usize = 11;
const SYSTEM_TICKS: usize = 12;

/// Of the demo's kind of model.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Footprint {
    /// From the process's start until it serves, milliseconds.
    pub ready_ms: Series,
    /// Resident memory after calls of 64 callers, MB of 10^6 bytes.
    pub resident_mb: f64,
    /// The program, without debug information where `strip` is there, MB.
    pub program_mb: f64,
    /// libonnxruntime.so, MB.
    pub onnx_runtime_mb: f64,
    /// Processor time of ten seconds without a call, seconds.
    pub idle_cpu_seconds: f64,
}

/// Of the service with process id `pid`, which has just been called.
pub(super) async fn of(pid: u32, ready_ms: Vec<f64>) -> Result<Footprint, CliError> {
    let process = PathBuf::from(format!("/proc/{pid}"));
    let resident_mb = resident_kib(&process)? as f64 * 1024.0 / 1e6;
    let before = cpu_seconds(&process)?;
    tokio::time::sleep(IDLE).await;
    let idle_cpu_seconds = cpu_seconds(&process)? - before;
    let megabytes = |path: &Path| -> Result<f64, CliError> {
        let metadata = fs::metadata(path).map_err(CliError::file(path))?;
        Ok(metadata.len() as f64 / 1e6)
    };
    let stripped =
        tempfile::NamedTempFile::new().map_err(BenchError::system("cannot make a file"))?;
    let program = process.join("exe");
    let program_mb = match strip(&program, stripped.path()) {
        Ok(()) => megabytes(stripped.path())?,
        Err(_) => megabytes(&program)?,
    };
    Ok(Footprint {
        // Holds: the service was started at least once.
        ready_ms: Series::of(ready_ms).expect("there is a turn"),
        resident_mb,
        program_mb,
        onnx_runtime_mb: megabytes(&onnx_runtime(&process)?)?,
        idle_cpu_seconds,
    })
}

fn resident_kib(process: &Path) -> Result<u64, CliError> {
    let path = process.join("status");
    let status = fs::read_to_string(&path).map_err(CliError::file(&path))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.trim().strip_suffix("kB")?.trim().parse().ok());
    kib.ok_or_else(|| CliError::file(path)(io::Error::other("no VmRSS")))
}

fn cpu_seconds(process: &Path) -> Result<f64, CliError> {
    let path = process.join("stat");
    let stat = fs::read_to_string(&path).map_err(CliError::file(&path))?;
    // The program's name stands in brackets and may hold blanks.
    let fields: Vec<_> = stat
        .rsplit_once(')')
        .map_or("", |(_, fields)| fields)
        .split_whitespace()
        .collect();
    let ticks = |number: usize| {
        fields
            .get(number)
            .and_then(|field| field.parse::<u64>().ok())
    };
    let all = ticks(USER_TICKS).zip(ticks(SYSTEM_TICKS));
    let (user, system) =
        all.ok_or_else(|| CliError::file(path)(io::Error::other("no processor time")))?;
    Ok((user + system) as f64 / rustix::param::clock_ticks_per_second() as f64)
}

/// The library that the process has mapped.
fn onnx_runtime(process: &Path) -> Result<PathBuf, CliError> {
    let path = process.join("maps");
    let maps = fs::read_to_string(&path).map_err(CliError::file(&path))?;
    let mapped = maps
        .lines()
        .filter_map(|line| line.split_whitespace().nth(5));
    let library = mapped.map(PathBuf::from).find(|file| {
        let name = file.file_name().and_then(|name| name.to_str());
        name.is_some_and(|name| name.starts_with("libonnxruntime"))
    });
    library.ok_or_else(|| CliError::file(path)(io::Error::other("no libonnxruntime is mapped")))
}

fn strip(program: &Path, output: &Path) -> io::Result<()> {
    let status = Command::new("strip")
        .arg("-o")
        .args([output, program])
        .stderr(Stdio::null())
        .status()?;
    match status.success() {
        true => Ok(()),
        false => Err(io::Error::other("strip failed")),
    }
}
