//! Makes tests find libtorch, and records its version.

use std::fs;

fn main() {
    // The version that torch-sys requires, for a folder without a version file.
    let mut version = "2.11.0".to_owned();
    if let Some(libtorch) = torch_build::set_rpath() {
        println!("cargo:rerun-if-changed={libtorch}/build-version");
        if let Ok(text) = fs::read_to_string(format!("{libtorch}/build-version")) {
            version = text.trim().to_owned();
        }
    }
    println!("cargo:rustc-env=LIBTORCH_VERSION={version}");
}
