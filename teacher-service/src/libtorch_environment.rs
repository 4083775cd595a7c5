//! Variables by which libtorch and the libraries below it are told how to compute.
//!
//! They are read once, when the process starts or libtorch is first used.

use std::{env, io};

use common::process_environment;
use serde::Deserialize;

/// How OpenMP's threads wait for each other.
const WAIT_POLICY: &str = "OMP_WAIT_POLICY";

/// The newest instruction set that may be used; each includes those before it. Capped alike,
/// unlike machines give the same bits.
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

/// Makes sure that this process runs under the cap, and that idle OpenMP threads sleep rather than
/// spin (unless the environment says how they wait): a service shares its machine. Returns when
/// that is so, and else starts the process anew (same id, same arguments) with the variables set.
///
/// # Errors
/// When the binary cannot be started anew.
pub fn settle(cpu_isa: CpuIsa) -> io::Result<()> {
    let mut missing: Vec<_> = cpu_isa
        .caps()
        .into_iter()
        .flatten()
        .filter(|(name, value)| env::var(name).as_deref() != Ok(*value))
        .collect();
    if env::var_os(WAIT_POLICY).is_none() {
        missing.push((WAIT_POLICY, "passive"));
    }
    process_environment::add(missing)
}

impl CpuIsa {
    /// oneDNN's cap (convolutions, matrix products) and ATen's (the rest).
    fn caps(self) -> Option<[(&'static str, &'static str); 2]> {
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
}
