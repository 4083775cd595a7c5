//! What the build scripts of crates that link libtorch have in common.

// Cargo reads the instructions of a build script from its standard output.
#![allow(clippy::print_stdout)]

use std::{env, path::Path};

/// Makes binaries and tests find libtorch at run time, without `LD_LIBRARY_PATH`. Returns the folder of libtorch, or
/// `None` if `LIBTORCH` is not set; torch-sys then explains what to do.
pub fn set_rpath() -> Option<String> {
    println!("cargo:rerun-if-env-changed=LIBTORCH");
    let libtorch = env::var("LIBTORCH").ok()?;
    println!("cargo:rustc-link-arg=-Wl,-rpath,{libtorch}/lib");
    Some(libtorch)
}

/// Folders of the headers of CUDA and of NCCL, below libtorch's: those of `make setup DEVICE=cuda`, and those beside the folder
/// `torch` of a PyTorch installation.
const NCCL_HEADERS: [[&str; 2]; 2] = [
    ["nvidia/cu13/include", "nvidia/nccl/include"],
    ["../nvidia/cu13/include", "../nvidia/nccl/include"],
];

/// [`Shim::headers`] of CUDA and NCCL. `None` for a libtorch without CUDA, and if headers are missing, which a warning of the
/// build says.
pub fn nccl_headers() -> Option<[&'static str; 2]> {
    let libtorch = env::var("LIBTORCH").ok()?;
    let libtorch = Path::new(&libtorch);
    if !libtorch.join("lib/libtorch_cuda.so").exists() {
        return None;
    }
    let are_complete = |[cuda, nccl]: &[&str; 2]| {
        let cuda = libtorch.join(cuda);
        // Of three packages.
        let of_cuda = ["cuda_runtime.h", "crt/host_config.h", "nv/target"];
        of_cuda.iter().all(|file| cuda.join(file).exists())
            && libtorch.join(nccl).join("nccl.h").exists()
    };
    let found = NCCL_HEADERS.into_iter().find(are_complete);
    if found.is_none() {
        println!(
            "cargo:warning=several processes cannot train on GPUs: {} has no headers of NCCL, or not all of CUDA's",
            libtorch.display()
        );
    }
    found
}

/// Links libtorch's part for CUDA too, after [`Shim::compile`].
pub fn link_cuda() {
    println!("cargo:rustc-link-lib=torch_cuda");
}

/// C++ around libtorch, with a C interface.
#[derive(Debug, Clone, Copy)]
pub struct Shim<'a> {
    /// Name of the library that it becomes.
    pub library: &'a str,
    /// The files, in the folder `shim` of the crate.
    pub sources: &'a [&'a str],
    /// Folders with headers, in the folder of libtorch.
    pub headers: &'a [&'a str],
    /// Further arguments of the compiler.
    pub flags: &'a [&'a str],
}

impl Shim<'_> {
    /// Compiles the shim and links it and libtorch, with an rpath. Does nothing if `LIBTORCH` is not set.
    pub fn compile(self) {
        println!("cargo:rerun-if-changed=shim");
        let Some(libtorch) = set_rpath() else {
            return;
        };
        let mut build = cc::Build::new();
        build.cpp(true).std("c++17").include("shim");
        build.files(self.sources.iter().map(|source| format!("shim/{source}")));
        for headers in self.headers {
            // System headers, so that only the shim's own code is checked for warnings.
            build.flag(format!("-isystem{libtorch}/{headers}"));
        }
        for flag in self.flags {
            build.flag(flag);
        }
        build.compile(self.library);
        println!("cargo:rustc-link-search=native={libtorch}/lib");
        println!("cargo:rustc-link-lib=torch_cpu");
        println!("cargo:rustc-link-lib=c10");
    }
}
