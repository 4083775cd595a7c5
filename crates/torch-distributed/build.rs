//! Compiles the C interface to c10d, with NCCL if libtorch has CUDA.

fn main() {
    let nccl = torch_build::nccl_headers();
    let mut headers = vec!["include", "include/torch/csrc/api/include"];
    headers.extend(nccl.into_iter().flatten());
    let flags: &[&str] = match nccl {
        // c10d's header declares NCCL's part only with this macro.
        Some(_) => &["-DUSE_C10D_NCCL"],
        None => &[],
    };
    let shim = torch_build::Shim {
        library: "torch_distributed_shim",
        sources: &["process_group.cpp"],
        headers: &headers,
        flags,
    };
    shim.compile();
    if nccl.is_some() {
        torch_build::link_cuda();
    }
}
