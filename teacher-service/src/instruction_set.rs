//! Capping the instruction set that libtorch uses, so that unlike machines give the same bits.
//!
//! libtorch and oneDNN read their caps from the environment when they are first used. A running
//! process cannot change its environment safely, so the service replaces itself by its own binary
//! with the caps set, before anything touches libtorch.

use std::{env, io, os::unix::process::CommandExt, process::Command};

use serde::Deserialize;

/// The newest instruction set that may be used; each includes those before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CpuIsa {
    /// Whatever the processor has.
    Auto,
    /// AVX2 and FMA.
    Avx2,
    /// AVX-512 F, BW, VL and DQ.
    Avx512,
    /// AVX-512 with bfloat16 dot products.
    Avx512Bf16,
}

impl CpuIsa {
    /// Variables for this cap: oneDNN's (convolutions, matrix products) and ATen's (the rest).
    fn variables(self) -> Option<[(&'static str, &'static str); 2]> {
        let (onednn, aten) = match self {
            CpuIsa::Auto => return None,
            CpuIsa::Avx2 => ("AVX2", "avx2"),
            CpuIsa::Avx512 => ("AVX512_CORE", "avx512"),
            CpuIsa::Avx512Bf16 => ("AVX512_CORE_BF16", "avx512"),
        };
        Some([
            ("ONEDNN_MAX_CPU_ISA", onednn),
            ("ATEN_CPU_CAPABILITY", aten),
        ])
    }

    /// Makes sure that this process runs under the cap: returns when it does, and else starts the
    /// process anew (same id, same arguments) with the variables set.
    ///
    /// # Errors
    /// When the binary cannot be started anew.
    pub fn apply(self) -> io::Result<()> {
        let Some(variables) = self.variables() else {
            return Ok(());
        };
        if variables
            .iter()
            .all(|(name, value)| env::var(name).as_deref() == Ok(*value))
        {
            return Ok(());
        }
        // Only returns when it failed.
        Err(Command::new(env::current_exe()?)
            .args(env::args_os().skip(1))
            .envs(variables)
            .exec())
    }
}
