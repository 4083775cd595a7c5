//! Every format with every fault: a clear error, or a listed skip.

use std::{
    ffi::OsString,
    fs,
    os::unix::{ffi::OsStringExt, fs::symlink},
    path::Path,
};

use test_support::damage::in_modest_memory;

use super::*;
use files::{huge_jpeg, huge_png, huge_webp, idx, npy, parquet_of, png, tar_of};

mod files;

/// The files of a small data set.
struct Scene {
    format: Format,
    files: Vec<(&'static str, Vec<u8>)>,
}

fn scenes() -> Vec<Scene> {
    let scene = |format, files| Scene { format, files };
    let record = |label: u8| [&[label][..], &[7; 3072]].concat();
    vec![
        scene(
            Format::Idx,
            vec![
                ("train-images-idx3-ubyte", idx(&[2, 1, 2], &[1, 2, 3, 4])),
                ("train-labels-idx1-ubyte", idx(&[2], &[0, 1])),
            ],
        ),
        scene(
            Format::ImageFolder,
            vec![
                ("train/a/1.png", png(3, 2, 1)),
                ("train/a/2.png", png(3, 2, 2)),
                ("train/b/1.png", png(3, 2, 3)),
                ("train/b/2.png", png(3, 2, 4)),
            ],
        ),
        scene(
            Format::Numpy,
            vec![
                ("x.npy", npy("|u1", "(2, 1, 2)", &[1, 2, 3, 4])),
                ("y.npy", npy("|i1", "(2,)", &[0, 1])),
            ],
        ),
        scene(
            Format::Numpy,
            vec![(
                "all.npz",
                include_bytes!("../formats/numpy/fixtures/images.npz").to_vec(),
            )],
        ),
        scene(
            Format::Csv,
            vec![("train.csv", b"a,b,label\n1,2,x\n3,4,y\n5,6,x\n".to_vec())],
        ),
        scene(
            Format::Cifar,
            // An odd number: half of the file must not be whole records.
            vec![(
                "data_batch_1.bin",
                [record(3), record(9), record(5)].concat(),
            )],
        ),
        scene(
            Format::Parquet,
            vec![(
                "train.parquet",
                include_bytes!("../formats/parquet/fixtures/pictures.parquet").to_vec(),
            )],
        ),
        scene(
            Format::WebDataset,
            vec![(
                "train.tar",
                include_bytes!("../formats/web_dataset/fixtures/numbers.tar").to_vec(),
            )],
        ),
    ]
}

/// What happens to a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    CutInTheMiddle,
    LastByteMissing,
    OneByteLeft,
    Empty,
    Text,
    OtherFormat,
    Folder,
    LinkToItself,
    LinkToNowhere,
    Missing,
}

impl Fault {
    const ALL: [Self; 10] = [
        Self::CutInTheMiddle,
        Self::LastByteMissing,
        Self::OneByteLeft,
        Self::Empty,
        Self::Text,
        Self::OtherFormat,
        Self::Folder,
        Self::LinkToItself,
        Self::LinkToNowhere,
        Self::Missing,
    ];

    fn apply(self, path: &Path) {
        let content = fs::read(path).unwrap();
        let rewrite = |content: &[u8]| fs::write(path, content).unwrap();
        match self {
            Self::CutInTheMiddle => rewrite(&content[..content.len() / 2]),
            Self::LastByteMissing => rewrite(&content[..content.len() - 1]),
            Self::OneByteLeft => rewrite(&content[..1]),
            Self::Empty => rewrite(b""),
            Self::Text => rewrite(b"<!DOCTYPE html>\n<title>Not found</title>\n"),
            Self::OtherFormat if content.starts_with(b"PK") => rewrite(&png(3, 2, 1)),
            Self::OtherFormat => rewrite(include_bytes!("../formats/numpy/fixtures/rows.npz")),
            _ => fs::remove_file(path).unwrap(),
        }
        match self {
            Self::Folder => fs::create_dir(path).unwrap(),
            Self::LinkToItself => symlink(path.file_name().unwrap(), path).unwrap(),
            Self::LinkToNowhere => symlink("nowhere", path).unwrap(),
            _ => {}
        }
    }

    /// Whether what is left may be a smaller data set of the format, which nothing can tell from a whole one.
    fn may_be_whole(self, format: Format, file: &str) -> bool {
        match format {
            // Rows of text end anywhere.
            Format::Csv => matches!(self, Self::CutInTheMiddle | Self::LastByteMissing),
            // Other pictures of the class are still there.
            Format::ImageFolder => matches!(self, Self::Missing | Self::Folder),
            // Arrays without labels are unlabelled.
            Format::Numpy => file == "y.npy" && matches!(self, Self::Missing | Self::Folder),
            _ => false,
        }
    }
}

fn write(folder: &Path, files: &[(&str, Vec<u8>)]) {
    for (name, content) in files {
        let path = folder.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }
}

/// Opens a folder and lists what cannot be used.
fn opened(folder: &Path, format: Option<Format>) -> Result<(Opened, String), String> {
    let spec = DataSpec {
        format,
        max_unreadable: 1.0,
        ..DataSpec::new(folder)
    };
    let data = open(&spec, &|_| ()).map_err(|error| error.to_string())?;
    let listed: Vec<_> = data.unreadable.iter().map(ToString::to_string).collect();
    Ok((data, listed.join("\n")))
}

#[test]
fn every_format_is_opened_without_a_fault() {
    for scene in scenes() {
        let folder = tempfile::tempdir().unwrap();
        write(folder.path(), &scene.files);
        let (_, listed) = opened(folder.path(), None).unwrap();
        assert_eq!(listed, "", "{}", scene.format);
    }
}

#[test]
fn a_damaged_file_of_every_format_is_an_error_or_listed_by_its_name() {
    for scene in scenes() {
        for (damaged, _) in &scene.files {
            for fault in Fault::ALL {
                let folder = tempfile::tempdir().unwrap();
                write(folder.path(), &scene.files);
                fault.apply(&folder.path().join(damaged));
                let found = in_modest_memory(|| opened(folder.path(), Some(scene.format)));
                let context = format!("{} {damaged} {fault:?}", scene.format);
                let said = match &found {
                    Ok((_, listed)) => listed,
                    Err(error) => error,
                };
                let is_named = said.contains(damaged)
                    // Of a folder without a file, only the folder can be named.
                    || (fault == Fault::Missing || fault == Fault::Folder)
                        && found.is_err()
                        && said.contains(&*folder.path().to_string_lossy());
                let is_whole = found.is_ok() && said.is_empty();
                assert!(
                    is_named || (is_whole && fault.may_be_whole(scene.format, damaged)),
                    "{context}: {:?}",
                    found.map(|(_, listed)| listed)
                );
            }
        }
    }
}

#[test]
fn a_name_that_is_not_utf_8_is_an_error_or_listed() {
    for scene in scenes() {
        let folder = tempfile::tempdir().unwrap();
        write(folder.path(), &scene.files);
        let (first, content) = &scene.files[0];
        let place = folder.path().join(first);
        let extension = place.extension().unwrap_or_default().as_encoded_bytes();
        let name = OsString::from_vec([b"\xff.", extension].concat());
        fs::write(place.with_file_name(name), content).unwrap();
        let said = match opened(folder.path(), Some(scene.format)) {
            Ok((_, listed)) => listed,
            Err(error) => error,
        };
        // Formats whose files have fixed names do not look at others.
        let is_fixed = matches!(scene.format, Format::Idx | Format::Cifar);
        assert!(
            said.contains("not UTF-8") || (is_fixed && said.is_empty()),
            "{}: {said}",
            scene.format
        );
    }
}

#[test]
fn a_folder_that_links_to_itself_ends() {
    for scene in scenes() {
        let folder = tempfile::tempdir().unwrap();
        write(folder.path(), &scene.files);
        symlink(".", folder.path().join("again")).unwrap();
        let parent = folder.path().join(scene.files[0].0);
        symlink("..", parent.with_file_name("up")).unwrap();
        let said = match opened(folder.path(), Some(scene.format)) {
            Ok((_, listed)) => listed,
            Err(error) => error,
        };
        if scene.format == Format::ImageFolder {
            assert!(
                said.contains("up: it is a link to a folder that it lies in"),
                "{said}"
            );
        } else {
            assert_eq!(said, "", "{}", scene.format);
        }
    }
}

#[test]
fn classes_and_sizes_of_arrays_that_the_training_split_lacks_are_errors() {
    let images = |at: u8| png(3, 2, at);
    let record = |label: u8| [&[label][..], &[7; 3072]].concat();
    let archive = |name: &str| tar_of(&[("1.png", images(1)), ("1.cls", name.as_bytes().to_vec())]);
    for (format, files, problem) in [
        (
            Format::ImageFolder,
            vec![("train/a/1.png", images(1)), ("val/b/1.png", images(2))],
            "class `b`",
        ),
        (
            Format::Csv,
            vec![
                ("train.csv", b"a,label\n1,x\n".to_vec()),
                ("test.csv", b"a,label\n1,z\n".to_vec()),
            ],
            "test.csv",
        ),
        (
            Format::WebDataset,
            vec![("train.tar", archive("cat")), ("test.tar", archive("dog"))],
            "test.tar",
        ),
        (
            Format::Cifar,
            vec![
                ("data_batch_1.bin", record(1)),
                ("test_batch.bin", record(10)),
            ],
            "test_batch.bin",
        ),
        (
            Format::Idx,
            vec![
                ("train-images-idx3-ubyte", idx(&[1, 1, 2], &[1, 2])),
                ("train-labels-idx1-ubyte", idx(&[1], &[0])),
                ("t10k-images-idx3-ubyte", idx(&[1, 2, 2], &[1, 2, 3, 4])),
                ("t10k-labels-idx1-ubyte", idx(&[1], &[0])),
            ],
            "t10k-images-idx3-ubyte",
        ),
        (
            Format::Numpy,
            vec![
                ("x_train.npy", npy("|u1", "(1, 1, 2)", &[1, 2])),
                ("y_train.npy", npy("|i1", "(1,)", &[0])),
                ("x_test.npy", npy("|u1", "(1, 2, 2)", &[1, 2, 3, 4])),
                ("y_test.npy", npy("|i1", "(1,)", &[0])),
            ],
            "x_test.npy",
        ),
    ] {
        let error = refusal(format, &files);
        assert!(error.contains(problem), "{format}: {error}");
    }
}

/// Why a folder with these files cannot be opened.
fn refusal(format: Format, files: &[(&str, Vec<u8>)]) -> String {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), files);
    let opened = opened(folder.path(), Some(format));
    opened.map(|(_, listed)| listed).unwrap_err()
}

#[test]
fn duplicate_names_are_errors() {
    let picture = png(3, 2, 1);
    for (format, files, problem) in [
        (
            Format::WebDataset,
            vec![(
                "train.tar",
                tar_of(&[("1.png", picture.clone()), ("1.jpg", picture.clone())]),
            )],
            "1.png and 1.jpg are pictures with the same key",
        ),
        (
            Format::Csv,
            vec![("train.csv", b"a,label,label\n1,x,y\n".to_vec())],
            "two of its columns are called `label`",
        ),
        (
            Format::ImageFolder,
            vec![
                ("train/a/1.png", picture.clone()),
                ("val/a/1.png", picture.clone()),
                ("valid/a/1.png", picture),
            ],
            "are both there",
        ),
    ] {
        let error = refusal(format, &files);
        assert!(error.contains(problem), "{format}: {error}");
    }
}

#[test]
fn headers_of_50_000_by_50_000_pixels_take_no_memory() {
    let whole = png(3, 2, 1);
    for (name, huge) in [
        ("huge.png", huge_png()),
        ("huge.jpg", huge_jpeg()),
        ("huge.webp", huge_webp()),
    ] {
        let folder = tempfile::tempdir().unwrap();
        write(folder.path(), &[("train/a/1.png", whole.clone())]);
        fs::write(folder.path().join("train/a").join(name), &huge).unwrap();
        let (_, listed) = in_modest_memory(|| opened(folder.path(), None)).unwrap();
        assert!(
            listed.contains(name) && listed.contains("50000x50000 pixels"),
            "{listed}"
        );

        let folder = tempfile::tempdir().unwrap();
        let members = [
            ("1.png", whole.clone()),
            ("1.cls", b"0".to_vec()),
            (name, huge.clone()),
        ];
        write(folder.path(), &[("train.tar", tar_of(&members))]);
        let (_, listed) = in_modest_memory(|| opened(folder.path(), None)).unwrap();
        assert!(
            listed.contains(name) && listed.contains("50000x50000 pixels"),
            "{listed}"
        );

        let folder = tempfile::tempdir().unwrap();
        fs::write(
            folder.path().join("train.parquet"),
            parquet_of(&[&whole, &huge]),
        )
        .unwrap();
        let (_, listed) = in_modest_memory(|| opened(folder.path(), None)).unwrap();
        assert!(
            listed.contains("train.parquet") && listed.contains("50000x50000 pixels"),
            "{listed}"
        );
    }
    for (format, name, header) in [
        (Format::Numpy, "x.npy", npy("|u1", "(1, 50000, 50000)", &[])),
        (
            Format::Idx,
            "train-images-idx3-ubyte",
            idx(&[1, 50_000, 50_000], &[]),
        ),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let labels = ("train-labels-idx1-ubyte", idx(&[1], &[0]));
        write(folder.path(), &[(name, header), labels]);
        let opened = in_modest_memory(|| opened(folder.path(), Some(format)));
        let error = opened.map(|(_, listed)| listed).unwrap_err();
        assert!(error.contains(name), "{error}");
    }
}
