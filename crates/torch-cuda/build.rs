//! Compiles the C interface.

fn main() {
    let shim = torch_build::Shim {
        library: "torch_cuda_shim",
        source: "cuda.cpp",
        headers: &["include"],
    };
    shim.compile();
}
