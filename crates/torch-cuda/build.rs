//! Compiles the C interface.

fn main() {
    let shim = torch_build::Shim {
        library: "torch_cuda_shim",
        sources: &["cuda.cpp"],
        headers: &["include"],
        flags: &[],
    };
    shim.compile();
}
