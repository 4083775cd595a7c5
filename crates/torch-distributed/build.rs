//! Compiles the C interface to c10d.

fn main() {
    let shim = torch_build::Shim {
        library: "torch_distributed_shim",
        sources: &["process_group.cpp"],
        headers: &["include", "include/torch/csrc/api/include"],
        flags: &[],
    };
    shim.compile();
}
