//! Sets an rpath, so that binaries and tests find libtorch without `LD_LIBRARY_PATH`, and records
//! libtorch's version.

use std::{env, fs};

fn main() {
    println!("cargo:rerun-if-env-changed=LIBTORCH");
    // The version that torch-sys requires, for a folder without a version file.
    let mut version = "2.11.0".to_owned();
    if let Ok(libtorch) = env::var("LIBTORCH") {
        println!("cargo:rustc-link-arg=-Wl,-rpath,{libtorch}/lib");
        println!("cargo:rerun-if-changed={libtorch}/build-version");
        if let Ok(text) = fs::read_to_string(format!("{libtorch}/build-version")) {
            version = text.trim().to_owned();
        }
    }
    println!("cargo:rustc-env=LIBTORCH_VERSION={version}");
}
