use std::{ffi::OsStr, fs, os::unix::ffi::OsStrExt, os::unix::fs::symlink, path::Path};

use image::{GrayImage, RgbImage};

use super::*;
use crate::{Ground, Sample, SampleKind, Shares, open};

/// Writes pictures of one color: (path, red). Those with a height other than 2 are gray.
fn folder(pictures: &[(&str, u8)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    pictures
        .iter()
        .for_each(|(path, red)| write(&folder.path().join(path), *red));
    folder
}

fn write(path: &Path, red: u8) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    RgbImage::from_pixel(3, 2, image::Rgb([red, 0, 0]))
        .save(path)
        .unwrap();
}

fn opened(path: &Path) -> Result<Opened, String> {
    open(&DataSpec::new(path), &|_| ()).map_err(|error| error.to_string())
}

/// (label, red) of each sample.
fn samples(source: &dyn Source) -> Vec<(Option<u32>, u8)> {
    let sample = |sample: u32| match source.read(sample).unwrap() {
        Sample::Image(picture) => (source.label(sample), picture.pixels[0]),
        Sample::Row(_) => panic!("a row"),
    };
    (0..source.len() as u32).map(sample).collect()
}

#[test]
fn splits_and_classes_are_read_in_the_order_of_torchvision() {
    // `Zebra` comes before `ant`: names are sorted by their bytes.
    let folder = folder(&[
        ("train/ant/2.png", 12),
        ("train/ant/10.png", 11),
        ("train/Zebra/deeper/1.png", 2),
        ("train/Zebra/0.png", 1),
        ("train/Zebra/.hidden.png", 99),
        ("train/.cache/1.png", 99),
        ("valid/ant/1.png", 21),
        ("test/ant/1.png", 31),
        ("test/Zebra/1.png", 32),
    ]);
    fs::write(folder.path().join("train/ant/notes.txt"), "x").unwrap();
    let data = opened(folder.path()).unwrap();
    assert_eq!(data.train.class_names(), ["Zebra", "ant"]);
    assert_eq!(
        samples(&*data.train),
        [(Some(0), 1), (Some(0), 2), (Some(1), 11), (Some(1), 12)]
    );
    assert_eq!(samples(&*data.validation.unwrap()), [(Some(1), 21)]);
    assert_eq!(
        samples(&*data.test.unwrap()),
        [(Some(0), 32), (Some(1), 31)]
    );
    assert_eq!(data.unreadable, []);
    let size = Some([2, 3]);
    assert_eq!(data.train.kind(), SampleKind::Image { channels: 3, size });
}

#[test]
fn classes_without_splits_are_split() {
    let names: Vec<_> = (0..20)
        .map(|at| format!("{}/{at}.png", ["a", "b"][at % 2]))
        .collect();
    let pictures: Vec<_> = names.iter().map(|name| (&**name, 7)).collect();
    let data = opened(folder(&pictures).path()).unwrap();
    let sizes = [Some(data.train), data.validation, data.test].map(|split| split.unwrap().len());
    assert_eq!(sizes, [16, 2, 2]);
}

#[test]
fn a_flat_folder_holds_unlabelled_pictures() {
    let folder = folder(&[("b.png", 2), ("a.jpg", 1)]);
    let data = opened(folder.path()).unwrap();
    assert_eq!(data.train.len(), 2);
    assert_eq!((data.train.label(0), data.train.label(1)), (None, None));
    assert!(data.train.class_names().is_empty());
    assert!(data.validation.is_none() && data.test.is_none());
    // With labelled pictures to test on.
    let root = folder.path();
    fs::create_dir(root.join("train")).unwrap();
    fs::rename(root.join("a.jpg"), root.join("train/a.jpg")).unwrap();
    fs::remove_file(root.join("b.png")).unwrap();
    write(&root.join("test/cat/1.png"), 5);
    let data = opened(root).unwrap();
    assert_eq!((data.train.len(), data.train.label(0)), (1, None));
    assert_eq!(samples(&*data.test.unwrap()), [(Some(0), 5)]);
}

#[test]
fn broken_pictures_are_listed_and_too_many_stop_the_opening() {
    let folder = folder(&[("train/a/1.png", 1), ("train/b/1.png", 2)]);
    let class = folder.path().join("train/a");
    fs::write(class.join("empty.png"), "").unwrap();
    fs::write(class.join("text.jpg"), "not a picture").unwrap();
    fs::write(class.join("old.bmp"), "BM").unwrap();
    let whole = fs::read(class.join("1.png")).unwrap();
    fs::write(class.join("cut.png"), &whole[..whole.len() - 8]).unwrap();
    fs::write(class.join(OsStr::from_bytes(b"\xa3.png")), &whole).unwrap();
    symlink("..", class.join("loop")).unwrap();
    symlink("nowhere.png", class.join("dangling.png")).unwrap();
    let error = opened(folder.path()).unwrap_err();
    assert!(error.contains("7 of 9 files cannot be used"), "{error}");
    assert!(
        error.contains("cut.png: cannot be decoded: it is truncated"),
        "{error}"
    );
    assert!(error.contains("and 2 more"), "{error}");

    let mut spec = DataSpec::new(folder.path());
    spec.max_unreadable = 0.9;
    let data = open(&spec, &|_| ()).unwrap();
    let problems: Vec<_> = data.unreadable.iter().map(ToString::to_string).collect();
    for part in [
        "/cut.png: cannot be decoded",
        "/dangling.png: it is a link to nowhere.png",
        "/empty.png: the file is empty",
        "/loop: it is a link to a folder that it lies in",
        "/old.bmp: bmp files are not supported",
        "/text.jpg: is not a PNG, JPEG or WebP file",
        "its name is not UTF-8",
    ] {
        assert!(
            problems.iter().any(|problem| problem.contains(part)),
            "{part}: {problems:?}"
        );
    }
    assert_eq!(samples(&*data.train), [(Some(0), 1), (Some(1), 2)]);
}

#[test]
fn layouts_that_do_not_fit_are_refused() {
    for (pictures, problem) in [
        (
            &[("train/a/1.png", 1), ("test/b/1.png", 1)][..],
            "class `b` is not among those of",
        ),
        (
            &[
                ("train/a/1.png", 1),
                ("val/a/1.png", 1),
                ("valid/a/1.png", 1),
            ],
            "are both there",
        ),
        (
            &[("train/a/1.png", 1), ("train/1.png", 1)],
            "pictures of no class, such as",
        ),
        (&[("test/a/1.png", 1)], "no folder `train`"),
        (
            &[("train/a/1.png", 1), ("train/b/.x.png", 1)],
            "class `b` has no usable picture",
        ),
        (&[("train/.x/1.png", 1)], "no usable sample"),
    ] {
        let error = opened(folder(pictures).path()).unwrap_err();
        assert!(error.contains(problem), "{error}");
    }
    let file = folder(&[("1.png", 1)]).keep().join("1.png");
    let mut spec = DataSpec::new(&file);
    spec.format = Some(crate::Format::ImageFolder);
    assert!(
        open(&spec, &|_| ())
            .unwrap_err()
            .to_string()
            .contains("not a folder")
    );
    fs::remove_dir_all(file.parent().unwrap()).unwrap();
}

#[test]
fn named_classes_decide_the_order_and_must_be_complete() {
    let folder = folder(&[
        ("train/a/1.png", 1),
        ("train/b/1.png", 2),
        ("test/a/1.png", 3),
    ]);
    let with_names = |names: &[&str]| {
        let mut spec = DataSpec::new(folder.path());
        spec.class_names = Some(names.iter().map(|name| (*name).to_owned()).collect());
        open(&spec, &|_| ()).map_err(|error| error.to_string())
    };
    let data = with_names(&["b", "a"]).unwrap();
    assert_eq!(samples(&*data.train), [(Some(0), 2), (Some(1), 1)]);
    assert!(
        with_names(&["a"])
            .unwrap_err()
            .contains("class `b` is not among the named classes")
    );
    assert!(
        with_names(&["a", "b", "c"])
            .unwrap_err()
            .contains("class `c` has no usable picture")
    );
}

#[test]
fn pictures_of_several_sizes_and_colors_are_one_source() {
    let folder = folder(&[("a/1.png", 9), ("b/1.png", 8)]);
    GrayImage::from_pixel(5, 4, image::Luma([77]))
        .save(folder.path().join("b/2.png"))
        .unwrap();
    let mut spec = DataSpec::new(folder.path());
    spec.shares = Shares {
        validation: 0.0,
        test: 0.0,
        seed: 0,
    };
    let data = open(&spec, &|_| ()).unwrap();
    assert_eq!(
        data.train.kind(),
        SampleKind::Image {
            channels: 3,
            size: None
        }
    );
    let Sample::Image(picture) = data.train.read(2).unwrap() else {
        panic!("a row")
    };
    assert_eq!(
        (picture.shape, &picture.pixels[..3]),
        ([3, 4, 5], &[77; 3][..])
    );
}

#[test]
fn the_fingerprint_follows_content_names_labels_and_ground_but_not_the_place() {
    let pictures = [("train/a/1.png", 1), ("train/b/1.png", 2)];
    let fingerprint = |pictures: &[(&str, u8)], ground: u8| {
        let folder = folder(pictures);
        let mut spec = DataSpec::new(folder.path());
        spec.ground = Ground([ground; 3]);
        open(&spec, &|_| ()).unwrap().train.fingerprint().to_owned()
    };
    let first = fingerprint(&pictures, 255);
    assert_eq!(first.len(), 64);
    assert_eq!(fingerprint(&pictures, 255), first);
    assert_ne!(fingerprint(&pictures, 254), first);
    for other in [
        [("train/a/1.png", 1), ("train/b/1.png", 3)],
        [("train/a/1.png", 1), ("train/b/2.png", 2)],
        [("train/a/1.png", 1), ("train/c/1.png", 2)],
    ] {
        assert_ne!(fingerprint(&other, 255), first);
    }
}

#[test]
fn a_file_that_changes_after_the_opening_is_not_read() {
    let folder = folder(&[("train/a/1.png", 1), ("train/a/2.png", 2)]);
    let data = opened(folder.path()).unwrap();
    write(&folder.path().join("train/a/1.png"), 77);
    fs::remove_file(folder.path().join("train/a/2.png")).unwrap();
    let error = |sample| data.train.read(sample).unwrap_err().to_string();
    assert!(
        error(0).contains("train/a/1.png): the file has changed"),
        "{}",
        error(0)
    );
    assert!(error(1).contains("No such file"), "{}", error(1));
}

#[test]
fn progress_counts_to_the_number_of_files() {
    let folder = folder(&[
        ("train/a/1.png", 1),
        ("train/a/2.png", 2),
        ("test/a/1.png", 1),
    ]);
    let seen = std::sync::Mutex::new(Vec::new());
    open(&DataSpec::new(folder.path()), &|progress| {
        seen.lock().unwrap().push(progress)
    })
    .unwrap();
    let mut seen = seen.into_inner().unwrap();
    seen.sort_by_key(|progress| (progress.total, progress.done));
    let expected = [(1, 1), (1, 2), (2, 2)].map(|(done, total)| Progress { done, total });
    assert_eq!(seen, expected);
}
