//! Starts a program if the memory limit is large enough: `require-memory MIB PROGRAM [ARGUMENT...]`.
//!
//! The images start the services that link libtorch with this program. Loading libtorch takes memory before
//! `main`: under a smaller limit the kernel kills the process, which cannot report the reason itself.

use common::output::Messages;
use std::{
    env,
    ffi::{OsStr, OsString},
    os::unix::process::CommandExt,
    process::{Command, ExitCode},
};

use common::memory_limit::memory_limit;

const MIB: u64 = 1 << 20;

fn main() -> ExitCode {
    let arguments: Vec<OsString> = env::args_os().skip(1).collect();
    let [needed, program, arguments @ ..] = arguments.as_slice() else {
        return fail("usage: require-memory MIB PROGRAM [ARGUMENT...]");
    };
    let Some(needed) = needed.to_str().and_then(|text| text.parse::<u64>().ok()) else {
        return fail("usage: require-memory MIB PROGRAM [ARGUMENT...]");
    };
    match memory_limit().map(|bytes| bytes / MIB) {
        Some(limit) if limit < needed => fail(&too_little(program, needed, limit)),
        _ => {
            // Returns only on failure.
            let error = Command::new(program).args(arguments).exec();
            fail(&format!("cannot start {}: {error}", program.display()))
        }
    }
}

fn too_little(program: &OsStr, needed: u64, limit: u64) -> String {
    format!(
        "{} needs at least {needed} MiB of memory, and this container may use {limit} MiB: raise \
         its limit (mem_limit in a compose file, --memory of docker run)",
        program.display()
    )
}

fn fail(text: &str) -> ExitCode {
    writeln!(Messages, "{text}");
    ExitCode::FAILURE
}
