//! Streams of soft targets into loops that only count them.

use anyhow::Result;

use crate::process::{Program, Server};

/// Samples per batch.
pub(crate) const BATCH_SIZE: usize = 128;
/// Time that a simulated teacher takes per batch.
pub(crate) const BATCH_MILLISECONDS: u64 = 20;
/// Batches in flight per simulated teacher.
pub(crate) const CREDIT: usize = 2;
/// Batches in flight to the teacher that answers with a constant, and over the bare stream: enough
/// that neither end waits for the other.
pub(crate) const DEEP: usize = 64;

/// Starts `teachers` simulated teachers in one process, each on its own port. Each takes this time per batch.
pub(crate) async fn simulated_teachers(
    teachers: usize,
    milliseconds: u64,
    credit: usize,
) -> Result<Server> {
    let program = Program::part("simulated-teachers")?
        .args(["--teachers", &teachers.to_string()])
        .args(["--milliseconds", &milliseconds.to_string()])
        .args(["--credit", &credit.to_string()]);
    program.serve().await
}

/// The addresses of the first `teachers` simulated teachers of `server`.
pub(crate) fn endpoints(server: &Server, teachers: usize) -> Vec<String> {
    let addresses = server.addresses.values().take(teachers);
    addresses.map(ToString::to_string).collect()
}

/// The part `client`, which keeps `ahead` batches in flight to `endpoints` and counts answers for `seconds`.
pub(crate) fn client(
    client: &str,
    endpoints: &[String],
    ahead: usize,
    seconds: f64,
) -> Result<Program> {
    Ok(Program::part(client)?
        .args(["--batch-size", &BATCH_SIZE.to_string()])
        .args(["--ahead", &ahead.to_string()])
        .args(["--seconds", &seconds.to_string()])
        .args(endpoints))
}
