//! Makes binaries and tests find libtorch at run time.

fn main() {
    torch_build::set_rpath();
}
