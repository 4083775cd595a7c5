//! Compiles the C interface and the kernels.

fn main() {
    let shim = torch_build::Shim {
        library: "torch_fused_shim",
        sources: &["batch_norm.cpp", "kernels.cpp"],
        headers: &["include", "include/torch/csrc/api/include"],
        // Multiply and add round on their own, so that all instruction sets give the same bits.
        flags: &["-O3", "-ffp-contract=off"],
    };
    shim.compile();
}
