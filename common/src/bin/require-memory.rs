//! Starts a program where the memory suffices for it: `require-memory MIB PROGRAM [ARGUMENT...]`.
//!
//! The services that link libtorch are started by this in their images. Loading libtorch takes
//! memory before a program's first line runs: under too small a limit the kernel ends it without a
//! word, and it could not say so itself.

use std::{env, error::Error, os::unix::process::CommandExt, process::Command};

use common::memory_limit::memory_limit;

const MIB: u64 = 1 << 20;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = env::args_os().skip(1);
    let usage = "usage: require-memory MIB PROGRAM [ARGUMENT...]";
    let needed = arguments.next().ok_or(usage)?;
    let needed: u64 = needed.to_str().ok_or(usage)?.parse().map_err(|_| usage)?;
    let program = arguments.next().ok_or(usage)?;
    let limit = memory_limit().map(|bytes| bytes / MIB);
    if let Some(limit) = limit.filter(|limit| *limit < needed) {
        let program = program.display();
        return Err(format!(
            "{program} needs at least {needed} MiB of memory, and this container may use {limit} MiB: raise its limit \
             (mem_limit in a compose file, --memory of docker run)"
        )
        .into());
    }
    // Only returns when it failed.
    let error = Command::new(&program).args(arguments).exec();
    Err(format!("cannot start {}: {error}", program.display()).into())
}
