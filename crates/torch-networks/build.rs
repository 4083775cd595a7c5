//! Compiles the C interface for CUDA, sets an rpath, so that binaries and tests find libtorch without
//! `LD_LIBRARY_PATH`, and records libtorch's version.

use std::{env, fs};

fn main() {
    println!("cargo:rerun-if-env-changed=LIBTORCH");
    println!("cargo:rerun-if-changed=shim");
    // The version that torch-sys requires, for a folder without a version file.
    let mut version = "2.11.0".to_owned();
    if let Ok(libtorch) = env::var("LIBTORCH") {
        cc::Build::new()
            .cpp(true)
            .std("c++17")
            .file("shim/cuda.cpp")
            // System headers, so that only the shim's own code is checked for warnings.
            .flag(format!("-isystem{libtorch}/include"))
            .compile("torch_networks_shim");
        println!("cargo:rustc-link-search=native={libtorch}/lib");
        println!("cargo:rustc-link-lib=torch_cpu");
        println!("cargo:rustc-link-lib=c10");
        println!("cargo:rustc-link-arg=-Wl,-rpath,{libtorch}/lib");
        println!("cargo:rerun-if-changed={libtorch}/build-version");
        if let Ok(text) = fs::read_to_string(format!("{libtorch}/build-version")) {
            version = text.trim().to_owned();
        }
    }
    println!("cargo:rustc-env=LIBTORCH_VERSION={version}");
}
