//! The processor instructions that libtorch uses. They affect the bits of results and the speed of bf16.

use std::{env, fmt, fs};

/// The instruction sets in use, limited by environment variables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InstructionSet {
    /// Instruction set of ATen, libtorch's own operations.
    aten: &'static str,
    /// Instruction set of oneDNN (convolutions and matrix products), as an index into [`ONEDNN`].
    onednn: usize,
}

/// oneDNN's levels in ascending order, by their names in `ONEDNN_MAX_CPU_ISA`. Each level lists the
/// processor flags (of `/proc/cpuinfo`) that it needs beyond the earlier levels of its family.
const ONEDNN: [(&str, &[&str]); 10] = [
    ("SSE41", &["sse4_1"]),
    ("AVX", &["avx"]),
    ("AVX2", &["avx2", "fma"]),
    ("AVX2_VNNI", &["avx2", "avx_vnni"]),
    (
        "AVX2_VNNI_2",
        &["avx_vnni", "avx_vnni_int8", "avx_ne_convert"],
    ),
    (
        "AVX512_CORE",
        &["avx512f", "avx512bw", "avx512vl", "avx512dq"],
    ),
    ("AVX512_CORE_VNNI", &["avx512bw", "avx512_vnni"]),
    ("AVX512_CORE_BF16", &["avx512_vnni", "avx512_bf16"]),
    (
        "AVX512_CORE_FP16",
        &["avx512_bf16", "avx512_fp16", "avx_vnni"],
    ),
    (
        "AVX512_CORE_AMX",
        &["avx512_fp16", "amx_tile", "amx_int8", "amx_bf16"],
    ),
];

const FIRST_WITH_BF16: usize = 7;

impl InstructionSet {
    /// The instruction sets that this process uses.
    pub fn current() -> Self {
        let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let flags = cpuinfo
            .lines()
            .find_map(|line| line.strip_prefix("flags"))
            .unwrap_or_default();
        let variable = |name| env::var(name).ok();
        let onednn_cap = variable("ONEDNN_MAX_CPU_ISA").or_else(|| variable("DNNL_MAX_CPU_ISA"));
        InstructionSet::of(
            flags,
            variable("ATEN_CPU_CAPABILITY").as_deref(),
            onednn_cap.as_deref(),
        )
    }

    fn of(flags: &str, aten_cap: Option<&str>, onednn_cap: Option<&str>) -> Self {
        let flags: Vec<_> = flags.split_ascii_whitespace().collect();
        let has = |needed: &[&str]| needed.iter().all(|flag| flags.contains(flag));
        let aten = match aten_cap {
            Some("default") => "default",
            Some("avx2") if has(&["avx2", "fma"]) => "avx2",
            _ if has(&["avx512vl", "avx512bw", "avx512dq", "fma"]) => "avx512",
            _ if has(&["avx2", "fma"]) => "avx2",
            _ => "default",
        };
        let best = ONEDNN
            .iter()
            .rposition(|(_, needed)| has(needed))
            .unwrap_or(0);
        let cap = onednn_cap
            .and_then(|cap| {
                ONEDNN
                    .iter()
                    .position(|(name, _)| name.eq_ignore_ascii_case(cap))
            })
            .unwrap_or(best);
        InstructionSet {
            aten,
            onednn: best.min(cap),
        }
    }

    /// Whether the processor multiplies bf16 numbers natively, without emulation.
    pub fn has_bf16(self) -> bool {
        self.onednn >= FIRST_WITH_BF16
    }
}

impl fmt::Display for InstructionSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "aten {}, onednn {}",
            self.aten,
            ONEDNN[self.onednn].0.to_ascii_lowercase()
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AVX2: &str = ": fpu sse4_1 avx avx2 fma";
    const BF16: &str =
        ": fpu sse4_1 avx avx2 fma avx512f avx512bw avx512vl avx512dq avx512_vnni avx512_bf16";

    #[test]
    fn environment_variables_limit_the_processors_instruction_set() {
        for (flags, aten, onednn, expected, bf16) in [
            (
                BF16,
                None,
                None,
                "aten avx512, onednn avx512_core_bf16",
                true,
            ),
            (
                BF16,
                Some("avx2"),
                Some("AVX2"),
                "aten avx2, onednn avx2",
                false,
            ),
            (
                BF16,
                Some("default"),
                Some("avx512_core"),
                "aten default, onednn avx512_core",
                false,
            ),
            (
                BF16,
                None,
                Some("AVX512_CORE_AMX"),
                "aten avx512, onednn avx512_core_bf16",
                true,
            ),
            (
                AVX2,
                Some("avx512"),
                Some("ALL"),
                "aten avx2, onednn avx2",
                false,
            ),
            ("", None, None, "aten default, onednn sse41", false),
        ] {
            let set = InstructionSet::of(flags, aten, onednn);
            assert_eq!((set.to_string().as_str(), set.has_bf16()), (expected, bf16));
        }
    }
}
