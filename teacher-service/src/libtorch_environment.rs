//! Environment variables that control how libtorch, ONNX Runtime and their libraries compute.
//!
//! The libraries read them once, when the process starts or libtorch is first used.

use std::{env, io};

use common::process_environment::{self, TENSOR_SETTINGS};
use serde::Deserialize;

/// The newest instruction set that libtorch may use; each includes those before it. Different machines with
/// the same limit give the same bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CpuIsa {
    /// The newest of the processor.
    Auto,
    /// AVX2 and FMA.
    Avx2,
    /// AVX-512 F, BW, VL and DQ.
    Avx512,
    /// AVX-512 with bfloat16 dot products.
    Avx512Bf16,
}

/// Ensures that the environment limits the instruction set and contains [`TENSOR_SETTINGS`], except variables
/// that are set already. ONNX Runtime reports nothing to its vendor unless the environment says otherwise. If a
/// variable is missing, executes the program again (same process id, same arguments) with the variables set.
///
/// # Errors
/// If the program cannot be executed.
pub fn settle(cpu_isa: CpuIsa) -> io::Result<()> {
    let mut missing: Vec<_> = cpu_isa
        .caps()
        .into_iter()
        .flatten()
        .filter(|(name, value)| env::var(name).as_deref() != Ok(*value))
        .collect();
    missing.extend(process_environment::missing(&TENSOR_SETTINGS));
    #[cfg(feature = "onnx")]
    missing.extend(process_environment::missing(&onnx_runtime::ENVIRONMENT));
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
