//! Compiles the C interface, and sets an rpath, so that tests find libtorch without `LD_LIBRARY_PATH`.

use std::env;

fn main() {
    println!("cargo:rerun-if-env-changed=LIBTORCH");
    println!("cargo:rerun-if-changed=shim");
    // Without LIBTORCH, torch-sys explains what to do.
    let Ok(libtorch) = env::var("LIBTORCH") else {
        return;
    };
    cc::Build::new()
        .cpp(true)
        .std("c++17")
        .file("shim/cuda.cpp")
        // System headers, so that only the shim's own code is checked for warnings.
        .flag(format!("-isystem{libtorch}/include"))
        .compile("torch_cuda_shim");
    println!("cargo:rustc-link-search=native={libtorch}/lib");
    println!("cargo:rustc-link-lib=torch_cpu");
    println!("cargo:rustc-link-lib=c10");
    println!("cargo:rustc-link-arg=-Wl,-rpath,{libtorch}/lib");
}
