//! Settings that libraries read from the environment when the process starts.

use std::io;

use common::process_environment;
use onnx_runtime::ENVIRONMENT;

/// Settings for speed. None of them changes a result.
const SETTINGS: [(&str, &str); 3] = [
    // Idle OpenMP threads sleep. By default they spin for milliseconds: when teachers or other programs used
    // the same cores, 2 threads on 2 busy cores trained 6 times slower.
    ("OMP_WAIT_POLICY", "passive"),
    // glibc keeps freed memory. Every step frees and allocates the same tensors; returning their pages in
    // between took a tenth of the time. 32 MiB is the maximum that glibc accepts here.
    ("MALLOC_MMAP_THRESHOLD_", "33554432"),
    ("MALLOC_TRIM_THRESHOLD_", "1073741824"),
];

/// Ensures that this process runs with the settings for training and those that ONNX Runtime needs.
///
/// # Errors
/// When the program cannot be started anew.
pub fn prepare() -> io::Result<()> {
    let settings: Vec<_> = SETTINGS.into_iter().chain(ENVIRONMENT).collect();
    process_environment::require(&settings)
}
