//! Tar archives in the layout of WebDataset (<https://github.com/webdataset/webdataset>): consecutive files
//! with one key are a sample, for example `0001.jpg` with `0001.cls`.

use std::{
    fs::File,
    io::Read,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use crate::{
    DataSpec, DatasetError, Opened, Progress, Source,
    labels::{Classes, Label},
    packed::{Archive, Member, PackedFiles},
    pictures::Pictures,
    split_files::SplitFiles,
};

/// Bytes of a file with a label.
const LARGEST_LABEL: u64 = 1 << 20;

/// Opens the archive `spec.path`, or the folder with `train-000000.tar` and so on.
///
/// A label is the content of a `.cls` or `.txt` file or the entry `label` or `cls` of a `.json` file: a number
/// or a name. Numbers are positions in `spec.class_names`, or count the classes; names are the classes, sorted by
/// their bytes.
///
/// # Errors
/// [`DatasetError`], which names the archive.
pub(crate) fn open(
    spec: &DataSpec,
    progress: &(dyn Fn(Progress) + Sync),
) -> Result<Opened, DatasetError> {
    let files = SplitFiles::find(&spec.path, "tar")?;
    let train = Index::read(&files.train)?;
    let labels = || {
        train
            .samples
            .iter()
            .filter_map(|sample| sample.label.as_ref())
    };
    let numbers = labels().map(|label| match label {
        Label::Number(number) => Some(*number),
        Label::Name(_) => None,
    });
    let classes = match (&spec.class_names, numbers.collect::<Option<Vec<i64>>>()) {
        (Some(names), _) => Classes::named(names),
        (None, Some(numbers)) if !numbers.is_empty() => {
            let smallest = numbers.iter().min().copied().unwrap_or(0);
            let largest = numbers.iter().max().copied().unwrap_or(0);
            Classes::counted(if smallest < 0 { smallest } else { largest }, &spec.path)?
        }
        (None, _) => Classes::found(labels()),
    };
    let mut unreadable = Vec::new();
    let mut source = |index: Index| -> Result<Arc<dyn Source>, DatasetError> {
        let files = index.files(&classes)?;
        let names = classes.names().to_vec();
        let (pictures, mut broken) = Pictures::scan(files, names, spec.decoding(), progress);
        unreadable.append(&mut broken);
        Ok(Arc::new(pictures))
    };
    let train = source(train)?;
    let mut held_out = |files: &[PathBuf]| -> Result<Option<Arc<dyn Source>>, DatasetError> {
        if files.is_empty() {
            return Ok(None);
        }
        source(Index::read(files)?).map(Some)
    };
    Ok(Opened {
        validation: held_out(&files.validation)?,
        test: held_out(&files.test)?,
        train,
        unreadable,
    })
}

/// Where the samples of one split lie.
#[derive(Default)]
struct Index {
    archives: Vec<Archive>,
    samples: Vec<Sample>,
}

struct Sample {
    archive: usize,
    name: String,
    offset: u64,
    length: u64,
    label: Option<Label>,
}

/// Files with one key.
#[derive(Default)]
struct Group {
    key: String,
    /// Name, offset and length.
    picture: Option<(String, u64, u64)>,
    label: Option<Label>,
}

impl Index {
    fn read(files: &[PathBuf]) -> Result<Self, DatasetError> {
        let mut index = Self::default();
        for path in files {
            index
                .add(path)
                .map_err(|problem| DatasetError::malformed(path, "WebDataset", problem))?;
        }
        Ok(index)
    }

    /// Adds the samples of the archive `path`, whose pictures are skipped.
    fn add(&mut self, path: &Path) -> Result<(), String> {
        if !path.is_file() {
            return Err("it is not a regular file".to_owned());
        }
        let open = || File::open(path).map_err(|error| error.to_string());
        let archive = self.archives.len();
        self.archives.push(Archive {
            path: path.to_owned(),
            file: Arc::new(open()?),
        });
        require_end(&self.archives[archive].file)?;
        let mut tar = tar::Archive::new(open()?);
        let mut group = Group::default();
        let before = self.samples.len();
        for entry in tar.entries_with_seek().map_err(|error| error.to_string())? {
            let mut entry = entry.map_err(|error| error.to_string())?;
            if !entry.header().entry_type().is_file() {
                continue;
            }
            let path = entry.path_bytes().into_owned();
            let Ok(name) = String::from_utf8(path) else {
                return Err("the name of a file in it is not UTF-8".to_owned());
            };
            let Some((key, extension)) = key_and_extension(&name) else {
                continue;
            };
            if key != group.key {
                let complete = std::mem::replace(
                    &mut group,
                    Group {
                        key: key.to_owned(),
                        ..Group::default()
                    },
                );
                self.samples.extend(complete.sample(archive));
            }
            match extension.to_ascii_lowercase().as_str() {
                "jpg" | "jpeg" | "png" | "webp" => {
                    if let Some((other, ..)) = &group.picture {
                        return Err(format!("{other} and {name} are pictures with the same key"));
                    }
                    group.picture = Some((name.clone(), entry.raw_file_position(), entry.size()));
                }
                "cls" | "txt" | "json" => {
                    let mut text = String::new();
                    let read = (&mut entry).take(LARGEST_LABEL).read_to_string(&mut text);
                    read.map_err(|error| format!("{name}: {error}"))?;
                    let label = if extension.eq_ignore_ascii_case("json") {
                        label_of_json(&text).map_err(|problem| format!("{name}: {problem}"))?
                    } else {
                        Some(Label::parse(text.trim()))
                    };
                    group.label = label.or(group.label);
                }
                _ => {}
            }
        }
        self.samples.extend(group.sample(archive));
        if self.samples.len() == before {
            return Err("it has no picture".to_owned());
        }
        Ok(())
    }

    fn files(self, classes: &Classes) -> Result<PackedFiles, DatasetError> {
        let archives = self.archives;
        let member = |sample: Sample| {
            let path = &archives[sample.archive].path;
            let label = match &sample.label {
                None => None,
                Some(label) => Some(classes.index(label).ok_or_else(|| {
                    let problem = format!("the label of {} is none of the classes", sample.name);
                    DatasetError::malformed(path, "WebDataset", problem)
                })?),
            };
            Ok(Member {
                // Holds: the archives are files with names on a command line or in a folder.
                archive: sample.archive as u32,
                name: sample.name,
                offset: sample.offset,
                length: sample.length,
                label,
            })
        };
        let members = self
            .samples
            .into_iter()
            .map(member)
            .collect::<Result<_, DatasetError>>()?;
        Ok(PackedFiles { archives, members })
    }
}

impl Group {
    fn sample(self, archive: usize) -> Option<Sample> {
        let (name, offset, length) = self.picture?;
        Some(Sample {
            archive,
            name,
            offset,
            length,
            label: self.label,
        })
    }
}

/// An archive consists of blocks of 512 bytes and ends with two of zeros. Any other is truncated, which reading it
/// would not show.
fn require_end(archive: &File) -> Result<(), String> {
    let mut end = [1; 1024];
    let length = archive.metadata().map_err(|error| error.to_string())?.len();
    let is_read = length
        .checked_sub(end.len() as u64)
        .is_some_and(|offset| archive.read_exact_at(&mut end, offset).is_ok());
    if is_read && length.is_multiple_of(512) && end == [0; 1024] {
        return Ok(());
    }
    Err("it does not end as an archive does (truncated?)".to_owned())
}

/// The key is the path up to the first dot of the file's name.
fn key_and_extension(path: &str) -> Option<(&str, &str)> {
    let name = path.rfind('/').map_or(0, |slash| slash + 1);
    let dot = name + path[name..].find('.')?;
    (dot > name).then(|| (&path[..dot], &path[dot + 1..]))
}

fn label_of_json(text: &str) -> Result<Option<Label>, String> {
    let value: serde_json::Value = serde_json::from_str(text).map_err(|error| error.to_string())?;
    let label = ["label", "cls"].iter().find_map(|key| value.get(key));
    match label {
        None => Ok(None),
        Some(serde_json::Value::String(name)) => Ok(Some(Label::parse(name))),
        Some(value) => match value.as_i64() {
            Some(number) => Ok(Some(Label::Number(number))),
            None => Err("its label is neither a whole number nor a name".to_owned()),
        },
    }
}

#[cfg(test)]
mod tests;
