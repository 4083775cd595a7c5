//! Makes binaries and tests find libtorch at run time, without `LD_LIBRARY_PATH`,
//! and records which libtorch it is.

use std::{env, fs};

fn main() {
    println!("cargo:rerun-if-env-changed=LIBTORCH");
    // What torch-sys asks for, where the folder does not say.
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
