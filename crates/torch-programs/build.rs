//! Compiles the C interface to libtorch's runner of exported programs.

fn main() {
    let shim = torch_build::Shim {
        library: "torch_programs_shim",
        sources: &["model_runner.cpp"],
        headers: &["include", "include/torch/csrc/api/include"],
        flags: &[],
    };
    shim.compile();
}
