//! NumPy arrays: an `.npz` archive, or a folder of `.npy` files.

use std::{
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
    sync::Arc,
};

use common::folders;

use crate::{
    DataSpec, DatasetError, InMemoryImages, InMemoryRows, Opened, Source,
    labels::{Classes, Label},
    npy::Array,
    split_files::VALIDATION,
};

/// Bytes of one array.
const LARGEST: u64 = 8 << 30;

/// The array that may be in parts.
const PARTED: &str = "x";

/// Opens `spec.path`: an archive, a folder with one archive, or a folder of arrays.
///
/// Arrays are found by their names: `x_train`, `train_x`, `train_images` or `images_train` and `y_train`,
/// `train_y`, `train_labels` or `labels_train`, likewise for `val` and `test`; or `x`, `images` or `data` with
/// `y`, `labels` or `target`. In a folder, `x` may be in numbered parts, `x-1.npy`, `x-2.npy` and so on; an inference
/// service writes captured samples so.
///
/// Images are u8: [n, height, width], [n, height, width, channels] or [n, channels, height, width]. Rows are
/// numbers of any type, [n, values]. Labels are whole numbers, [n] or [n, 1]; the classes are the numbers from
/// 0 to the largest label for training unless they are named. Without labels, the samples are unlabelled.
///
/// # Errors
/// [`DatasetError`], which names the file or array.
pub(crate) fn open(spec: &DataSpec) -> Result<Opened, DatasetError> {
    let mut arrays = Arrays::open(&spec.path)?;
    let names = arrays.names();
    let pairs = |splits: &[&str]| {
        splits
            .iter()
            .find_map(|split| Pair::of_split(&names, split))
    };
    let (train, validation, test) = match pairs(&["train"]) {
        Some(train) => (train, pairs(&VALIDATION), pairs(&["test"])),
        None => {
            let whole = Pair::find(
                &names,
                &["x", "images", "data"],
                &["y", "labels", "target", "targets"],
            );
            let pair = whole.ok_or_else(|| {
                let found = common::text::shorten(&names.join(", "), 200);
                let problem =
                    format!("it has no array `x_train`, `train_images` or `x`; it has {found}");
                DatasetError::layout(&spec.path, problem)
            })?;
            (pair, None, None)
        }
    };
    let train = Samples::read(&mut arrays, train)?;
    let classes = match (&spec.class_names, train.labels.iter().flatten().max()) {
        (Some(names), _) => Classes::named(names),
        (None, None) => Classes::named(&[]),
        (None, Some(largest)) => Classes::counted(*largest, &train.place)?,
    };
    let train = train.source(&classes)?;
    let mut held_out = |pair: Option<Pair>| -> Result<Option<Arc<dyn Source>>, DatasetError> {
        let Some(pair) = pair else { return Ok(None) };
        let samples = Samples::read(&mut arrays, pair)?;
        let place = samples.place.clone();
        let source = samples.source(&classes)?;
        // Holds: the samples of an array have one shape.
        let [found, expected] = [&source, &train].map(|it| it.kind().shape().unwrap_or_default());
        if found != expected {
            let problem =
                format!("its samples have the shape {found:?}, those for training {expected:?}");
            return Err(DatasetError::malformed(place, "NumPy", problem));
        }
        Ok(Some(source))
    };
    Ok(Opened {
        validation: held_out(validation)?,
        test: held_out(test)?,
        train,
        unreadable: Vec::new(),
    })
}

/// Names of the arrays of one split.
struct Pair {
    samples: String,
    labels: Option<String>,
}

impl Pair {
    fn of_split(names: &[String], split: &str) -> Option<Self> {
        let around = |words: &[&str]| -> Vec<String> {
            words
                .iter()
                .flat_map(|word| [format!("{word}_{split}"), format!("{split}_{word}")])
                .collect()
        };
        let (samples, labels) = (
            around(&["x", "images", "data"]),
            around(&["y", "labels", "targets"]),
        );

        Self::find(names, &texts(&samples), &texts(&labels))
    }

    /// The first of each that is there, in any case.
    fn find(names: &[String], samples: &[&str], labels: &[&str]) -> Option<Self> {
        let first = |wanted: &[&str]| {
            let find = |wanted: &&str| names.iter().find(|name| name.eq_ignore_ascii_case(wanted));
            wanted.iter().find_map(find).cloned()
        };
        Some(Self {
            samples: first(samples)?,
            labels: first(labels),
        })
    }
}

fn texts(names: &[String]) -> Vec<&str> {
    names.iter().map(String::as_str).collect()
}

/// Arrays of one split.
struct Samples {
    place: PathBuf,
    array: Array,
    labels: Option<Vec<i64>>,
}

impl Samples {
    fn read(arrays: &mut Arrays, pair: Pair) -> Result<Self, DatasetError> {
        let (array, place) = arrays.read(&pair.samples)?;
        let count = *array.shape.first().unwrap_or(&0);
        let Some(name) = pair.labels else {
            return Ok(Self {
                place,
                array,
                labels: None,
            });
        };
        let (labels, labels_place) = arrays.read(&name)?;
        let refused = |problem: String| DatasetError::malformed(&labels_place, "NumPy", problem);
        if !matches!(labels.shape[..], [_] | [_, 1]) {
            return Err(refused(format!(
                "labels of shape {:?}, expected [n]",
                labels.shape
            )));
        }
        let numbers = labels.integers().map_err(refused)?;
        if numbers.len() != count {
            return Err(DatasetError::CountMismatch {
                images_file: place,
                images: count,
                labels_file: labels_place,
                labels: numbers.len(),
            });
        }
        Ok(Self {
            place,
            array,
            labels: Some(numbers),
        })
    }

    fn source(self, classes: &Classes) -> Result<Arc<dyn Source>, DatasetError> {
        let refused = |problem: String| DatasetError::malformed(&self.place, "NumPy", problem);
        let count = *self.array.shape.first().unwrap_or(&0);
        let index = |(index, label): (usize, &i64)| {
            classes
                .index(&Label::Number(*label))
                .map(Some)
                .ok_or_else(|| {
                    let classes = classes.names().len();
                    let problem = format!(
                        "the label {label} of sample {index} is none of the {classes} classes"
                    );
                    refused(problem)
                })
        };
        let labels = match &self.labels {
            None => vec![None; count],
            Some(labels) => labels
                .iter()
                .enumerate()
                .map(index)
                .collect::<Result<_, _>>()?,
        };
        let names = classes.names().to_vec();
        let shape = self.array.shape.clone();
        if shape.contains(&0) || u32::try_from(count).is_err() {
            return Err(refused(format!(
                "shape {shape:?} holds nothing or more than 2^32 samples"
            )));
        }
        if let [_, values] = shape[..] {
            let rows = self.array.floats().map_err(refused)?;
            return Ok(Arc::new(InMemoryRows::new(values, names, rows, labels)));
        }
        let image = match shape[..] {
            [_, height, width] => Some(([1, height, width], false)),
            [_, height, width, channels @ (1 | 3)] => Some(([channels, height, width], true)),
            [_, channels @ (1 | 3), height, width] => Some(([channels, height, width], false)),
            _ => None,
        };
        let (Some((image, is_interleaved)), true) = (image, self.array.is_u8()) else {
            let problem = format!(
                "shape {shape:?} is neither rows [n, values] nor uint8 images [n, height, width], \
                 [n, height, width, 1 or 3] or [n, 1 or 3, height, width]"
            );
            return Err(refused(problem));
        };
        let place = self.place;
        let pixels = self.array.into_bytes();
        let pixels = pixels.map_err(|problem| DatasetError::malformed(&place, "NumPy", problem))?;
        let pixels = if is_interleaved {
            planar(pixels, image)
        } else {
            pixels
        };
        Ok(Arc::new(InMemoryImages::new(image, names, pixels, labels)))
    }
}

/// Reorders images of [height, width, channels] to `shape` = [channels, height, width].
fn planar(pixels: Vec<u8>, [channels, height, width]: [usize; 3]) -> Vec<u8> {
    if channels == 1 {
        return pixels;
    }
    let images = pixels.chunks_exact(channels * height * width);
    let plane = |image, channel| <[u8]>::iter(image).skip(channel).step_by(channels).copied();
    images
        .flat_map(|image| (0..channels).flat_map(move |channel| plane(image, channel)))
        .collect()
}

/// Where the arrays are.
enum Arrays {
    Archive {
        path: PathBuf,
        archive: zip::ZipArchive<File>,
    },
    Folder {
        folder: PathBuf,
        names: Vec<String>,
    },
}

impl Arrays {
    fn open(path: &Path) -> Result<Self, DatasetError> {
        if !path.is_dir() {
            return Self::archive(path);
        }
        let listing = folders::list(path).map_err(|error| DatasetError::unreadable(path, error))?;
        if let Some(unusable) = listing.unusable.first() {
            return Err(DatasetError::layout(path, unusable.to_string()));
        }
        let names: Vec<_> = listing
            .entries
            .into_iter()
            .map(|entry| entry.name)
            .collect();
        let archives: Vec<_> = names.iter().filter(|name| name.ends_with(".npz")).collect();
        match archives[..] {
            [] => Ok(Self::Folder {
                folder: path.to_owned(),
                names: names
                    .iter()
                    .filter_map(|name| name.strip_suffix(".npy"))
                    .map(str::to_owned)
                    .collect(),
            }),
            [archive] => Self::archive(&path.join(archive)),
            [first, second, ..] => {
                let problem =
                    format!("it has several archives: {first}, {second}; name one of them");
                Err(DatasetError::layout(path, problem))
            }
        }
    }

    fn archive(path: &Path) -> Result<Self, DatasetError> {
        if !path.is_file() {
            return Err(DatasetError::unreadable(path, "it is not a regular file"));
        }
        let file = File::open(path).map_err(|error| DatasetError::unreadable(path, error))?;
        let archive = zip::ZipArchive::new(file)
            .map_err(|error| DatasetError::malformed(path, "NPZ", error.to_string()))?;
        Ok(Self::Archive {
            path: path.to_owned(),
            archive,
        })
    }

    fn names(&self) -> Vec<String> {
        match self {
            Self::Archive { archive, .. } => {
                let names = archive
                    .file_names()
                    .filter_map(|name| name.strip_suffix(".npy"));
                let mut names: Vec<_> = names.map(str::to_owned).collect();
                names.sort();
                names
            }
            Self::Folder { names, .. } => {
                let parted = is_parted(names).then(|| PARTED.to_owned());
                names.iter().cloned().chain(parted).collect()
            }
        }
    }

    /// The array and its place.
    fn read(&mut self, name: &str) -> Result<(Array, PathBuf), DatasetError> {
        if let Self::Folder { folder, names } = &*self
            && name == PARTED
            && is_parted(names)
        {
            return read_parts(folder, names);
        }
        let file = format!("{name}.npy");
        let (bytes, place) = match self {
            Self::Archive { path, archive } => (read_member(archive, &file), path.join(&file)),
            Self::Folder { folder, .. } => {
                let path = folder.join(&file);
                (folders::read(&path), path)
            }
        };
        let bytes = bytes.map_err(|error| DatasetError::unreadable(&place, error))?;
        let array = Array::parse(bytes)
            .map_err(|problem| DatasetError::malformed(&place, "NumPy", problem))?;
        Ok((array, place))
    }
}

/// The number of a part of [`PARTED`].
fn part_number(name: &str) -> Option<u64> {
    let number = name.strip_prefix(PARTED)?.strip_prefix('-')?;
    let is_number = number.bytes().all(|digit| digit.is_ascii_digit());
    number.parse().ok().filter(|_| is_number)
}

/// Whether a folder with these arrays has [`PARTED`] in parts, and not as one array.
fn is_parted(names: &[String]) -> bool {
    let has_whole = names.iter().any(|name| name.eq_ignore_ascii_case(PARTED));
    !has_whole && names.iter().any(|name| part_number(name).is_some())
}

/// Reads the parts of [`PARTED`] in the order of their numbers. The folder is their place.
fn read_parts(folder: &Path, names: &[String]) -> Result<(Array, PathBuf), DatasetError> {
    let parts = names
        .iter()
        .filter_map(|name| Some((part_number(name)?, name)));
    let mut parts: Vec<_> = parts.collect();
    parts.sort();
    let mut whole: Option<Array> = None;
    for (_, name) in parts {
        let place = folder.join(format!("{name}.npy"));
        let bytes =
            folders::read(&place).map_err(|error| DatasetError::unreadable(&place, error))?;
        let joined = Array::parse(bytes).and_then(|part| match whole.take() {
            Some(before) => before.followed_by(part),
            None => Ok(part),
        });
        let joined = joined.map_err(|problem| DatasetError::malformed(&place, "NumPy", problem))?;
        whole = Some(joined);
    }
    // Holds: the caller has found a part.
    let whole = whole.ok_or_else(|| DatasetError::layout(folder, "it has no part of `x`"))?;
    Ok((whole, folder.to_owned()))
}

fn read_member(archive: &mut zip::ZipArchive<File>, name: &str) -> io::Result<Vec<u8>> {
    let member = archive.by_name(name).map_err(io::Error::other)?;
    let mut bytes = Vec::new();
    // The announced size is not trusted: memory grows with what is there.
    member.take(LARGEST + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > LARGEST {
        return Err(io::Error::other(format!(
            "it has more than {LARGEST} bytes"
        )));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests;
