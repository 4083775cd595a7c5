//! The binary versions of CIFAR-10 and CIFAR-100 (<https://www.cs.toronto.edu/~kriz/cifar.html>).
//!
//! A file is a sequence of records. A record of CIFAR-10 is a label and 3,072 bytes: the red, green and blue
//! planes of 32 × 32 pixels. A record of CIFAR-100 has two labels, the coarse one first.

use std::{
    collections::BTreeSet,
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use common::folders;

use crate::{DataSpec, DatasetError, InMemoryImages, Opened, Source, split_files::is_there};

/// [channels, height, width]
const SHAPE: [usize; 3] = [3, 32, 32];
const PIXELS: usize = 3 * 32 * 32;

/// Which of the two data sets.
#[derive(Debug, Clone, Copy)]
enum Variant {
    Cifar10,
    /// Labels are the fine ones.
    Cifar100,
}

/// Opens the folder `spec.path`.
///
/// # Errors
/// [`DatasetError`], which names the file.
pub(crate) fn open(spec: &DataSpec) -> Result<Opened, DatasetError> {
    let folder = &spec.path;
    let batches = batches(folder)?;
    let (variant, train) = if batches.is_empty() {
        (Variant::Cifar100, vec![folder.join("train.bin")])
    } else {
        (Variant::Cifar10, batches)
    };
    let test = folder.join(variant.test_file());
    let class_names = match &spec.class_names {
        Some(names) => names.clone(),
        None => variant.class_names(folder)?,
    };
    let load = |files: &[PathBuf]| -> Result<Arc<dyn Source>, DatasetError> {
        let mut pixels = Vec::new();
        let mut labels = Vec::new();
        for file in files {
            variant.read(file, class_names.len(), &mut pixels, &mut labels)?;
        }
        Ok(Arc::new(InMemoryImages::new(
            SHAPE,
            class_names.clone(),
            pixels,
            labels,
        )))
    };
    Ok(Opened {
        train: load(&train)?,
        validation: None,
        test: is_there(&test).then(|| load(&[test])).transpose()?,
        unreadable: Vec::new(),
    })
}

/// `data_batch_1.bin` and so on; none of CIFAR-100.
///
/// # Errors
/// If a number is missing before the highest: training would silently use a part of the data set.
fn batches(folder: &Path) -> Result<Vec<PathBuf>, DatasetError> {
    let unreadable = |error: io::Error| DatasetError::unreadable(folder, error);
    let mut numbers = BTreeSet::new();
    for entry in fs::read_dir(folder).map_err(unreadable)? {
        let name = entry.map_err(unreadable)?.file_name();
        numbers.extend(name.to_str().and_then(batch_number));
    }
    let highest = numbers.last().copied().unwrap_or(0);
    if let Some(missing) = (1..highest).find(|number| !numbers.contains(number)) {
        let problem = format!("it is missing, although {} is there", batch_name(highest));
        let missing = folder.join(batch_name(missing));
        return Err(DatasetError::unreadable(missing, problem));
    }
    let path = |number: u32| folder.join(batch_name(number));
    Ok(numbers.into_iter().map(path).collect())
}

fn batch_name(number: u32) -> String {
    format!("data_batch_{number}.bin")
}

/// The number of the batch in the file `name`, 1 or more.
fn batch_number(name: &str) -> Option<u32> {
    let number = name.strip_prefix("data_batch_")?.strip_suffix(".bin")?;
    let number = number.parse().ok().filter(|number| *number > 0)?;
    // Other spellings, such as 01 and +1, are not the files of CIFAR.
    (batch_name(number) == name).then_some(number)
}

impl Variant {
    fn test_file(self) -> &'static str {
        match self {
            Self::Cifar10 => "test_batch.bin",
            Self::Cifar100 => "test.bin",
        }
    }

    fn labels(self) -> usize {
        match self {
            Self::Cifar10 => 1,
            Self::Cifar100 => 2,
        }
    }

    /// The names, one a line, or numbers if the file of the names is missing.
    fn class_names(self, folder: &Path) -> Result<Vec<String>, DatasetError> {
        let (file, classes) = match self {
            Self::Cifar10 => ("batches.meta.txt", 10_usize),
            Self::Cifar100 => ("fine_label_names.txt", 100),
        };
        let path = folder.join(file);
        if !is_there(&path) {
            return Ok((0..classes).map(|class| class.to_string()).collect());
        }
        let text =
            fs::read_to_string(&path).map_err(|error| DatasetError::unreadable(&path, error))?;
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
        let names: Vec<_> = lines.map(str::to_owned).collect();
        if names.len() != classes {
            let problem = format!("it names {} classes, expected {classes}", names.len());
            return Err(DatasetError::malformed(&path, "CIFAR", problem));
        }
        Ok(names)
    }

    fn read(
        self,
        file: &Path,
        classes: usize,
        pixels: &mut Vec<u8>,
        labels: &mut Vec<Option<u32>>,
    ) -> Result<(), DatasetError> {
        let bytes = folders::read(file).map_err(|error| DatasetError::unreadable(file, error))?;
        let record = self.labels() + PIXELS;
        if bytes.is_empty() || bytes.len() % record != 0 {
            let problem = format!(
                "{} bytes are not a multiple of a record's {record}",
                bytes.len()
            );
            return Err(DatasetError::malformed(file, "CIFAR", problem));
        }
        for (index, record) in bytes.chunks_exact(record).enumerate() {
            let (numbers, image) = record.split_at(self.labels());
            let label = u32::from(numbers[self.labels() - 1]);
            if label as usize >= classes {
                let file = file.to_owned();
                return Err(DatasetError::LabelOutOfRange {
                    file,
                    index,
                    label,
                    classes,
                });
            }
            labels.push(Some(label));
            pixels.extend_from_slice(image);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{Sample, open};

    /// Records whose planes are filled with 1, 2 and 3, as the format's page describes them.
    fn records(labels: &[&[u8]]) -> Vec<u8> {
        let planes = [1, 2, 3].map(|value| [value; 1024]).concat();
        labels
            .iter()
            .flat_map(|labels| [*labels, &planes].concat())
            .collect()
    }

    fn opened(files: &[(&str, Vec<u8>)]) -> Result<Opened, String> {
        let folder = tempfile::tempdir().unwrap();
        for (name, content) in files {
            fs::write(folder.path().join(name), content).unwrap();
        }
        open(&DataSpec::new(folder.path()), &|_| ()).map_err(|error| error.to_string())
    }

    fn names(count: usize) -> Vec<u8> {
        (0..count)
            .map(|class| format!("name {class}\n"))
            .collect::<String>()
            .into_bytes()
    }

    #[test]
    fn both_variants_are_read() {
        let data = opened(&[
            ("data_batch_1.bin", records(&[&[3], &[9]])),
            ("data_batch_2.bin", records(&[&[0]])),
            ("test_batch.bin", records(&[&[1]])),
            ("batches.meta.txt", names(10)),
        ]);
        let data = data.unwrap();
        let labels = [0, 1, 2].map(|sample| data.train.label(sample));
        assert_eq!(labels, [Some(3), Some(9), Some(0)]);
        assert_eq!(data.train.class_names()[9], "name 9");
        assert_eq!(data.test.unwrap().len(), 1);
        let Sample::Image(picture) = data.train.read(0).unwrap() else {
            panic!("a row")
        };
        assert_eq!(picture.shape, SHAPE);
        assert_eq!(
            [
                picture.pixels[0],
                picture.pixels[1024],
                picture.pixels[3071]
            ],
            [1, 2, 3]
        );

        let data = opened(&[
            ("train.bin", records(&[&[3, 99]])),
            ("test.bin", records(&[&[1, 5]])),
        ]);
        let data = data.unwrap();
        assert_eq!(
            (data.train.label(0), data.train.class_names().len()),
            (Some(99), 100)
        );
    }

    #[test]
    fn batches_are_in_the_order_of_their_numbers() {
        let of = |number: u8| records(&[&[number % 10]]);
        let names: Vec<_> = (1..=10).map(batch_name).collect();
        let mut files: Vec<_> = names
            .iter()
            .map(String::as_str)
            .zip((1..).map(of))
            .collect();
        // Not one of the data set's.
        files.push(("data_batch_007.bin", of(7)));
        let train = opened(&files).unwrap().train;
        let labels: Vec<_> = (0..train.len() as u32)
            .filter_map(|sample| train.label(sample))
            .collect();
        assert_eq!(labels, [1, 2, 3, 4, 5, 6, 7, 8, 9, 0]);
    }

    #[test]
    fn damaged_files_are_named() {
        let whole = records(&[&[3]]);
        for (files, problem) in [
            (
                vec![("data_batch_1.bin", whole[1..].to_vec())],
                "data_batch_1.bin",
            ),
            (vec![("data_batch_1.bin", vec![])], "not a multiple"),
            (
                vec![("data_batch_1.bin", records(&[&[10]]))],
                "label 10 of sample 0",
            ),
            (
                vec![
                    ("data_batch_1.bin", whole.clone()),
                    ("batches.meta.txt", names(9)),
                ],
                "names 9 classes",
            ),
            (vec![("test.bin", records(&[&[1, 1]]))], "train.bin"),
            (
                vec![
                    ("data_batch_1.bin", whole.clone()),
                    ("data_batch_2.bin", whole.clone()),
                    ("data_batch_4.bin", whole.clone()),
                ],
                "data_batch_3.bin: it is missing, although data_batch_4.bin is there",
            ),
            (
                vec![("data_batch_2.bin", whole.clone())],
                "data_batch_1.bin: it is missing",
            ),
        ] {
            let error = opened(&files).unwrap_err();
            assert!(error.contains(problem), "{error}");
        }
    }

    proptest! {
        #![proptest_config(test_support::damage::cases(100))]

        #[test]
        fn foreign_files_are_errors_or_images(
            file in test_support::damage::foreign(vec![records(&[&[3], &[9]])]),
        ) {
            if let Ok(data) = opened(&[("data_batch_1.bin", file.clone())]) {
                let held_out = [data.validation, data.test].into_iter().flatten();
                let samples = data.train.len() + held_out.map(|split| split.len()).sum::<usize>();
                prop_assert_eq!(samples * 3073, file.len());
            }
        }
    }
}
