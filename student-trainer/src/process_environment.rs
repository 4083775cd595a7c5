//! Settings that libraries read from the environment when the process starts.

use std::io;

use common::process_environment;
use onnx_runtime::ENVIRONMENT;

/// None of them changes a bit of any result.
const SETTINGS: [(&str, &str); 3] = [
    // Idle OpenMP threads sleep. By default they spin for milliseconds: where teachers, or anything
    // else, want the same cores, 2 threads on 2 busy cores trained 6 times slower.
    ("OMP_WAIT_POLICY", "passive"),
    // glibc keeps freed memory. Every step frees and asks for the same tensors again; giving their
    // pages back in between cost a tenth of the time. 32 MiB is the most that glibc takes here.
    ("MALLOC_MMAP_THRESHOLD_", "33554432"),
    ("MALLOC_TRIM_THRESHOLD_", "1073741824"),
];

/// Makes sure that this process runs under settings that suit training, and under those that ONNX
/// Runtime needs.
///
/// # Errors
/// When the program cannot be started anew.
pub fn prepare() -> io::Result<()> {
    let settings: Vec<_> = SETTINGS.into_iter().chain(ENVIRONMENT).collect();
    process_environment::require(&settings)
}
