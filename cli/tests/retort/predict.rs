//! `retort predict` against a real service.

use std::process::Command;

use test_support::InferenceService;

/// Nothing listens on port 9, so a connection to an admin port would fail.
const UNREACHABLE: &str = "127.0.0.1:9";

#[test]
fn images_of_a_data_set_need_the_grpc_port_only() {
    let folder = tempfile::tempdir().unwrap();
    let service = InferenceService::start(env!("CARGO_BIN_EXE_retort"), folder.path());
    let data = folder.path().join("data");
    test_support::write_idx(&data, 3, [28, 28]);
    let output = Command::new(env!("CARGO_BIN_EXE_retort"))
        .args(["predict", "--model", "model", "--split", "train"])
        .args(["--index", "0,2", "--url", &service.address("grpc")])
        .arg("--idx")
        .arg(&data)
        .env("RETORT_ADMIN_ADDRESS", UNREACHABLE)
        .output()
        .unwrap();
    let printed = String::from_utf8(output.stdout).unwrap();
    let errors = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{errors}");
    for image in ["image 0: ", "image 2: "] {
        assert!(printed.contains(image), "{printed}");
    }
}
