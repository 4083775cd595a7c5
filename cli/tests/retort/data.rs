//! `retort data inspect` on folders of pictures.

use std::{
    ffi::OsStr,
    fs,
    os::unix::ffi::OsStrExt,
    path::Path,
    process::{Command, Output},
};

use image::{Rgb, RgbImage, Rgba, RgbaImage};
use serde_json::Value;

fn write_picture(path: &Path, size: [u32; 2], value: u8) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let [height, width] = size;
    RgbImage::from_pixel(width, height, Rgb([value, 0, 255]))
        .save(path)
        .unwrap();
}

fn inspect(folder: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_retort"));
    command
        .current_dir(folder)
        .args(["data", "inspect"])
        .args(arguments);
    command.output().unwrap()
}

fn text(output: &Output) -> String {
    let streams = [&output.stdout, &output.stderr];
    streams
        .map(|bytes| String::from_utf8_lossy(bytes).into_owned())
        .concat()
}

/// Pictures of two classes: one of them twice, one without a usable file in the test split, one file damaged.
fn photos() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let photos = folder.path().join("photos");
    for number in 0..12 {
        write_picture(
            &photos.join(format!("train/cat/{number}.png")),
            [20, 30],
            number,
        );
    }
    write_picture(&photos.join("train/dog/1.png"), [100, 200], 100);
    write_picture(&photos.join("test/cat/1.png"), [20, 30], 5);
    write_picture(&photos.join("test/cat/2.png"), [20, 30], 50);
    fs::write(photos.join("train/dog/broken.png"), b"\x89PNG\r\n\x1a\n").unwrap();
    let name = OsStr::from_bytes(b"\xff.png");
    fs::copy(
        photos.join("train/dog/1.png"),
        photos.join("train/dog").join(name),
    )
    .unwrap();
    folder
}

#[test]
fn counts_sizes_duplicates_and_unusable_files_are_printed() {
    let folder = photos();
    let output = inspect(folder.path(), &["photos"]);
    let said = text(&output);
    assert!(output.status.success(), "{said}");
    for part in [
        "training: 13 samples",
        "  2 sizes: height 20 to 100 (median 20), width 30 to 200 (median 30)",
        "  most frequent: 20 × 30 (12), 100 × 200 (1)",
        "photos/train/cat/5.png = photos/test/cat/1.png",
        "photos/train/dog/broken.png: cannot be decoded",
        "its name is not UTF-8; rename it",
        "- 1 of 2 test samples are also training samples",
        "- 2 files cannot be used",
        "- the classes are unbalanced: `cat` has 12 training samples, `dog` has 1",
        "- the test samples lack classes: dog",
    ] {
        assert!(said.contains(part), "{part} is not in:\n{said}");
    }
    let output = inspect(folder.path(), &["photos", "--json"]);
    let json: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(json["splits"][0]["classes"][0]["samples"], 12);
    assert_eq!(json["unreadable"].as_array().unwrap().len(), 2);
    assert_eq!(json["warnings"].as_array().unwrap().len(), 4);
}

#[test]
fn the_page_has_a_picture_of_each_class() {
    let folder = photos();
    let output = inspect(folder.path(), &["photos", "--html", "photos.html"]);
    assert!(output.status.success(), "{}", text(&output));
    let page = fs::read_to_string(folder.path().join("photos.html")).unwrap();
    let pictures = |kind: &str| {
        page.matches(&format!("src=\"data:image/{kind};base64,"))
            .count()
    };
    // Sizes differ, so all thumbnails have the same size.
    assert_eq!((pictures("jpeg"), pictures("png")), (13, 0));
    for part in [
        "<h3>cat</h3>",
        "<h3>dog</h3>",
        "photos/train/dog/broken.png",
        "13 training samples",
    ] {
        assert!(page.contains(part), "{part}");
    }
}

#[test]
fn transparent_pixels_show_the_ground() {
    let folder = tempfile::tempdir().unwrap();
    for class in ["cat", "dog"] {
        let picture = RgbaImage::from_pixel(2, 2, Rgba([9, 9, 9, 0]));
        fs::create_dir_all(folder.path().join(class)).unwrap();
        picture
            .save(folder.path().join(class).join("1.png"))
            .unwrap();
    }
    for (arguments, mean) in [
        (&["."][..], [1.0, 1.0, 1.0]),
        (&[".", "--ground", "#ff0000"], [1.0, 0.0, 0.0]),
    ] {
        let output = inspect(folder.path(), &[arguments, &["--json"]].concat());
        let json: Value = serde_json::from_slice(&output.stdout).unwrap();
        let channels = json["splits"][0]["channels"].as_array().unwrap();
        let found: Vec<_> = channels
            .iter()
            .filter_map(|channel| channel["mean"].as_f64())
            .collect();
        assert_eq!(found, mean, "{json}");
    }
}

#[test]
fn data_that_cannot_be_opened_is_named() {
    let folder = photos();
    let missing = inspect(folder.path(), &["nowhere"]);
    assert_eq!(missing.status.code(), Some(1));
    assert!(text(&missing).contains("nowhere"), "{}", text(&missing));
    let wrong = inspect(folder.path(), &["photos", "--format", "pictures"]);
    assert_eq!(wrong.status.code(), Some(64));
    assert!(text(&wrong).contains("image-folder"), "{}", text(&wrong));
    let page = inspect(
        folder.path(),
        &["photos", "--html", "photos/train/cat/1.png/page.html"],
    );
    assert_eq!(page.status.code(), Some(1));
}
