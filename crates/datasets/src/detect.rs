//! Finds out how a data set is stored.

use std::path::Path;

use common::folders::{self, EntryKind};

use crate::{DatasetError, Format};

/// The format of what lies at `path`, from its names.
///
/// # Errors
/// [`DatasetError::Layout`], which names what was found, if no format or several fit.
pub(crate) fn detect(path: &Path) -> Result<Format, DatasetError> {
    if !path.exists() {
        return Err(DatasetError::unreadable(
            path,
            "there is no such file or folder",
        ));
    }
    if path.is_file() {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        return of_file(&name).ok_or_else(|| {
            let problem = "no known data set is a file with such a name";
            DatasetError::layout(path, problem)
        });
    }
    let listing = folders::list(path).map_err(|error| DatasetError::unreadable(path, error))?;
    let visible = listing
        .entries
        .iter()
        .filter(|entry| !entry.name.starts_with('.'));
    let visible: Vec<_> = visible.collect();
    let mut found: Vec<Format> = Vec::new();
    let files = visible.iter().filter(|entry| entry.kind == EntryKind::File);
    for format in files.filter_map(|entry| of_file(&entry.name)) {
        if !found.contains(&format) {
            found.push(format);
        }
    }
    if found.is_empty() {
        // Tables and archives may lie one level deeper: `data/train-….parquet`, `train/….tar`.
        let folders = visible
            .iter()
            .filter(|entry| entry.kind == EntryKind::Folder);
        let below = folders.filter_map(|folder| folders::list(&folder.path).ok());
        let below: Vec<_> = below.flat_map(|listing| listing.entries).collect();
        let has_folders = below.iter().any(|entry| entry.kind == EntryKind::Folder);
        let mut formats: Vec<_> = below
            .iter()
            .filter_map(|entry| of_file(&entry.name))
            .collect();
        let is_table =
            |it: &Format| matches!(it, Format::Csv | Format::Parquet | Format::WebDataset);
        if !has_folders && formats.iter().all(is_table) {
            formats.dedup();
            found.extend(formats);
        }
    }
    if found.is_empty() && visible.iter().any(|entry| entry.kind == EntryKind::Folder) {
        found.push(Format::ImageFolder);
    }
    match found[..] {
        [format] => Ok(format),
        [] => {
            let problem = format!(
                "no known data set: it holds {}. Expected are folders of pictures, pictures, or files of \
                 one of the formats {}",
                first_few(visible.iter().map(|entry| entry.name.as_str())),
                first_few(Format::ALL.iter().map(|format| format.name())),
            );
            Err(DatasetError::layout(path, problem))
        }
        _ => {
            let formats = first_few(found.iter().map(|format| format.name()));
            let problem = format!("it holds files of several formats: {formats}. Set the format");
            Err(DatasetError::layout(path, problem))
        }
    }
}

/// The format of a file of this name.
fn of_file(name: &str) -> Option<Format> {
    let name = name.to_ascii_lowercase();
    let is_idx = |name: &str| {
        ["train-images-idx3-ubyte", "t10k-images-idx3-ubyte"]
            .iter()
            .any(|idx| name.strip_suffix(".gz").unwrap_or(name) == *idx)
    };
    let extension = Path::new(&name).extension().and_then(|it| it.to_str());
    match extension {
        _ if is_idx(&name) => Some(Format::Idx),
        Some("npy" | "npz") => Some(Format::Numpy),
        Some("csv") => Some(Format::Csv),
        Some("parquet") => Some(Format::Parquet),
        Some("tar") => Some(Format::WebDataset),
        Some("bin") if is_cifar(&name) => Some(Format::Cifar),
        Some("jpg" | "jpeg" | "png" | "webp") => Some(Format::ImageFolder),
        _ => None,
    }
}

fn is_cifar(name: &str) -> bool {
    name.starts_with("data_batch_") || ["train.bin", "test.bin", "test_batch.bin"].contains(&name)
}

/// The names, of many the first few.
fn first_few<'n>(names: impl Iterator<Item = &'n str>) -> String {
    const NAMED: usize = 8;
    let names: Vec<_> = names.collect();
    if names.is_empty() {
        return "nothing".to_owned();
    }
    let named = names[..names.len().min(NAMED)].join(", ");
    match names.len().saturating_sub(NAMED) {
        0 => named,
        more => format!("{named} and {more} more"),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_layout_tells_its_format_or_the_error_names_what_was_found() {
        let detected = |names: &[&str]| {
            let folder = tempfile::tempdir().unwrap();
            for name in names {
                let path = folder.path().join(name);
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(path, "").unwrap();
            }
            detect(folder.path()).map_err(|error| error.to_string())
        };
        for (names, format) in [
            (&["train/a/1.jpg", "README.md"][..], Format::ImageFolder),
            (&["1.PNG"], Format::ImageFolder),
            (&["x_train.npy", "y_train.npy"], Format::Numpy),
            (&["train.csv", "test.csv"], Format::Csv),
            (&["data/train-0.parquet", "README.md"], Format::Parquet),
            (
                &["train/0.tar", "train/1.tar", "test/0.tar"],
                Format::WebDataset,
            ),
            (&["data_batch_1.bin", "batches.meta.txt"], Format::Cifar),
            (&["train-images-idx3-ubyte.gz", "x.txt"], Format::Idx),
        ] {
            assert_eq!(detected(names), Ok(format), "{names:?}");
        }
        for (names, problem) in [
            (&["a.txt", "b.txt"][..], "it holds a.txt, b.txt. Expected"),
            (&[], "it holds nothing"),
            (
                &["a.png", "t10k-images-idx3-ubyte"],
                "several formats: image-folder, idx",
            ),
            (&[".hidden/x.jpg"], "it holds nothing"),
        ] {
            let error = detected(names).unwrap_err();
            assert!(error.contains(problem), "{error}");
        }
    }

    #[test]
    fn a_file_tells_its_format_by_its_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("mnist.npz");
        assert!(
            detect(&path)
                .unwrap_err()
                .to_string()
                .contains("no such file")
        );
        fs::write(&path, "").unwrap();
        assert_eq!(detect(&path).unwrap(), Format::Numpy);
        let other = folder.path().join("data.xlsx");
        fs::write(&other, "").unwrap();
        assert!(
            detect(&other)
                .unwrap_err()
                .to_string()
                .contains("data.xlsx")
        );
    }
}
