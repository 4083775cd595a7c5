//! `retort predict` against a real service.

use std::process::Command;

use image::{GrayImage, RgbImage};
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

#[test]
fn pictures_of_unequal_sizes_are_classified_one_by_one() {
    let folder = tempfile::tempdir().unwrap();
    let service = InferenceService::start(env!("CARGO_BIN_EXE_retort"), folder.path());
    let path = |name: &str| folder.path().join(name);
    let small = GrayImage::from_fn(20, 31, |x, y| image::Luma([(x * 9 + y) as u8]));
    small.save(path("small.png")).unwrap();
    let large = RgbImage::from_fn(300, 200, |x, y| {
        image::Rgb([x, y, x + y].map(|value| value as u8))
    });
    large.save(path("large.jpg")).unwrap();
    large.save(path("large.webp")).unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_retort"))
        .args([
            "predict",
            "--model",
            "model",
            "--url",
            &service.address("grpc"),
        ])
        .args([path("small.png"), path("large.jpg"), path("large.webp")])
        .output()
        .unwrap();
    let printed = String::from_utf8(output.stdout).unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let lines: Vec<_> = printed.lines().collect();
    assert_eq!(lines.len(), 3, "{printed}");
    for (line, name) in lines
        .iter()
        .zip(["small.png: ", "large.jpg: ", "large.webp: "])
    {
        assert!(line.contains(name) && line.contains(" %"), "{line}");
    }
}
