//! Folders of pictures: `train/<class>/…` with `val/` and `test/`, `<class>/…`, or unlabelled pictures.

use std::{
    fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use common::folders::{self, EntryKind};

use crate::{
    DataSpec, DatasetError, Opened, Progress, Source, UnreadableFile,
    pictures::{Files, Pictures},
    split_files::VALIDATION,
};

/// Extensions of the formats that are decoded, as torchvision's `ImageFolder` has them.
const PICTURES: [&str; 4] = ["jpg", "jpeg", "png", "webp"];

/// Extensions of pictures in formats that are not supported: named, so that they are not missed.
const UNSUPPORTED: [&str; 14] = [
    "avif", "bmp", "gif", "heic", "heif", "jfif", "jp2", "jxl", "pbm", "pgm", "ppm", "svg", "tif",
    "tiff",
];

/// Opens the folder of pictures at `spec.path`.
///
/// Classes are the folders' names, sorted by their bytes as torchvision's `ImageFolder` sorts them, or
/// `spec.class_names`. Pictures may lie in further folders below their class. Hidden files, and files that are
/// no pictures by their extension, are ignored.
///
/// # Errors
/// Folders that do not fit together; see [`DatasetError`].
pub(crate) fn open(
    spec: &DataSpec,
    progress: &(dyn Fn(Progress) + Sync),
) -> Result<Opened, DatasetError> {
    let root = Level::list(&spec.path)?;
    let split = |names: &[&str]| root.split(&spec.path, names)?.map(Listed::list).transpose();
    let (train, validation, test) = (split(&["train"])?, split(&VALIDATION)?, split(&["test"])?);
    let has_held_out = validation.is_some() || test.is_some();
    let (train, mut unreadable) = match train {
        Some(train) => (train, root.unusable.clone()),
        None if has_held_out => {
            let problem = "it has a folder for validation or test, but no folder `train`";
            return Err(DatasetError::layout(&spec.path, problem));
        }
        None => (Listed::list(&spec.path)?, Vec::new()),
    };
    let class_names = class_names(spec, &train, [validation.as_ref(), test.as_ref()])?;
    let mut scan = |listed: Listed, names: &[String]| -> Result<Arc<dyn Source>, DatasetError> {
        let (files, mut left_out) = listed.files(names)?;
        let names = names.to_vec();
        let (pictures, broken) = Pictures::scan(files, names, spec.decoding(), progress);
        left_out.extend(broken);
        unreadable.append(&mut left_out);
        Ok(Arc::new(pictures))
    };
    let folder = train.folder.clone();
    let is_labelled = !train.classes.is_empty();
    let train = scan(train, &class_names)?;
    let validation = validation
        .map(|listed| scan(listed, &class_names))
        .transpose()?;
    let test = test.map(|listed| scan(listed, &class_names)).transpose()?;
    if is_labelled {
        require_every_class(&*train, &folder)?;
    }
    unreadable.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(Opened {
        train,
        validation,
        test,
        unreadable,
    })
}

/// The classes of all splits, in label order.
fn class_names(
    spec: &DataSpec,
    train: &Listed,
    held_out: [Option<&Listed>; 2],
) -> Result<Vec<String>, DatasetError> {
    let mut splits = std::iter::once(train).chain(held_out.into_iter().flatten());
    let names = match &spec.class_names {
        Some(names) => names.clone(),
        // Where nothing to train on is labelled, the first split with labels names the classes.
        None => splits
            .clone()
            .find(|split| !split.classes.is_empty())
            .map_or_else(Vec::new, Listed::class_names),
    };
    let unknown = splits.find_map(|split| {
        let mut classes = split.classes.iter();
        classes
            .find(|class| !names.contains(&class.name))
            .map(|class| (split, class))
    });
    if let Some((split, class)) = unknown {
        let among = match &spec.class_names {
            Some(_) => "the named classes".to_owned(),
            None => format!("those of {}", train.folder.display()),
        };
        let problem = format!("its class `{}` is not among {among}", class.name);
        return Err(DatasetError::layout(&split.folder, problem));
    }
    Ok(names)
}

fn require_every_class(train: &dyn Source, folder: &Path) -> Result<(), DatasetError> {
    let mut samples = vec![0_usize; train.class_names().len()];
    for sample in 0..train.len() as u32 {
        if let Some(label) = train.label(sample) {
            samples[label as usize] += 1;
        }
    }
    match samples.iter().position(|samples| *samples == 0) {
        None => Ok(()),
        Some(class) => {
            let name = &train.class_names()[class];
            let problem = format!("the class `{name}` has no usable picture");
            Err(DatasetError::layout(folder, problem))
        }
    }
}

/// The files of one split.
struct Listed {
    folder: PathBuf,
    /// By name.
    classes: Vec<Class>,
    /// Pictures that lie directly in the folder.
    unlabelled: Vec<PathBuf>,
    unreadable: Vec<UnreadableFile>,
}

struct Class {
    name: String,
    pictures: Vec<PathBuf>,
}

impl Listed {
    fn list(folder: &Path) -> Result<Self, DatasetError> {
        let level = Level::list(folder)?;
        let mut unreadable = level.unusable;
        let mut classes = Vec::new();
        for path in &level.folders {
            // Holds: a listing only has names that are UTF-8.
            let name = path
                .file_name()
                .and_then(|name| name.to_str())
                .unwrap_or_default();
            let mut pictures = Vec::new();
            collect(
                path,
                &mut vec![identity(folder)?],
                &mut pictures,
                &mut unreadable,
            )?;
            classes.push(Class {
                name: name.to_owned(),
                pictures,
            });
        }
        if let Some(picture) = level.pictures.first()
            && !classes.is_empty()
        {
            let problem = format!(
                "it has folders, which name classes, and also pictures of no class, such as {}; move them \
                 into a folder",
                picture.display()
            );
            return Err(DatasetError::layout(folder, problem));
        }
        Ok(Self {
            folder: folder.to_owned(),
            classes,
            unlabelled: level.pictures,
            unreadable,
        })
    }

    fn class_names(&self) -> Vec<String> {
        self.classes
            .iter()
            .map(|class| class.name.clone())
            .collect()
    }

    /// The pictures by label and path, and what was left out.
    fn files(self, names: &[String]) -> Result<(FolderFiles, Vec<UnreadableFile>), DatasetError> {
        let unlabelled = self.unlabelled.into_iter().map(|path| (None, path));
        let mut labelled = Vec::new();
        for class in self.classes {
            let label = names
                .iter()
                .position(|name| *name == class.name)
                .map(|at| at as u32);
            labelled.extend(class.pictures.into_iter().map(|path| (label, path)));
        }
        let mut files = FolderFiles {
            files: Vec::with_capacity(labelled.len()),
            folder: self.folder,
        };
        for (label, path) in unlabelled.chain(labelled) {
            // Holds: every path was found below the folder, and listings only have names that are UTF-8.
            let name = path.strip_prefix(&files.folder).ok().and_then(Path::to_str);
            files
                .files
                .push((label, name.unwrap_or_default().to_owned()));
        }
        files.files.sort();
        if u32::try_from(files.files.len()).is_err() {
            return Err(DatasetError::layout(
                &files.folder,
                "it has more than 2^32 - 1 pictures",
            ));
        }
        Ok((files, self.unreadable))
    }
}

/// Pictures of a folder by label and path relative to the folder.
#[derive(Debug)]
struct FolderFiles {
    folder: PathBuf,
    files: Vec<(Option<u32>, String)>,
}

impl Files for FolderFiles {
    fn len(&self) -> usize {
        self.files.len()
    }

    fn name(&self, file: usize) -> &str {
        &self.files[file].1
    }

    fn label(&self, file: usize) -> Option<u32> {
        self.files[file].0
    }

    fn place(&self, file: usize) -> PathBuf {
        self.folder.join(self.name(file))
    }

    fn read(&self, file: usize, largest: u64) -> io::Result<Vec<u8>> {
        let path = self.place(file);
        let length = fs::metadata(&path).map_or(0, |metadata| metadata.len());
        if length > largest {
            let text = format!("{length} bytes; at most {largest} are allowed");
            return Err(io::Error::new(io::ErrorKind::InvalidData, text));
        }
        folders::read(&path)
    }
}

/// What one folder holds, without hidden entries.
struct Level {
    folders: Vec<PathBuf>,
    pictures: Vec<PathBuf>,
    unusable: Vec<UnreadableFile>,
}

impl Level {
    /// The folder with one of `names`.
    fn split(&self, root: &Path, names: &[&str]) -> Result<Option<&Path>, DatasetError> {
        let is_named = |folder: &&PathBuf| names.iter().any(|name| folder.ends_with(name));
        let found: Vec<_> = self.folders.iter().filter(is_named).collect();
        match found[..] {
            [] => Ok(None),
            [folder] => Ok(Some(folder)),
            [first, second, ..] => {
                let problem = format!(
                    "{} and {} are both there",
                    first.display(),
                    second.display()
                );
                Err(DatasetError::layout(root, problem))
            }
        }
    }

    fn list(folder: &Path) -> Result<Self, DatasetError> {
        if !folder.is_dir() {
            let reason = if folder.exists() {
                "it is not a folder"
            } else {
                "there is no such folder"
            };
            return Err(DatasetError::unreadable(folder, reason));
        }
        let listing = folders::list(folder);
        let listing = listing.map_err(|error| DatasetError::unreadable(folder, error))?;
        let mut level = Self {
            folders: Vec::new(),
            pictures: Vec::new(),
            unusable: Vec::new(),
        };
        for entry in listing.entries {
            if entry.name.starts_with('.') {
                continue;
            }
            let extension = entry
                .path
                .extension()
                .and_then(|it| it.to_str())
                .unwrap_or_default();
            let extension = extension.to_ascii_lowercase();
            match entry.kind {
                EntryKind::Folder => level.folders.push(entry.path),
                EntryKind::File if PICTURES.contains(&&*extension) => {
                    level.pictures.push(entry.path)
                }
                EntryKind::File if UNSUPPORTED.contains(&&*extension) => {
                    level.unusable.push(UnreadableFile {
                        path: entry.path,
                        problem: format!("{extension} files are not supported; convert it to PNG"),
                    });
                }
                EntryKind::File | EntryKind::Other => {}
            }
        }
        for unusable in listing.unusable {
            level.unusable.push(unusable_entry(unusable));
        }
        Ok(level)
    }
}

fn unusable_entry(entry: folders::Unusable) -> UnreadableFile {
    match entry {
        folders::Unusable::Name { path } => UnreadableFile {
            path,
            problem: "its name is not UTF-8; rename it".to_owned(),
        },
        folders::Unusable::Unreachable { path, error } => UnreadableFile {
            path,
            problem: error.to_string(),
        },
    }
}

/// Adds the pictures in and below `folder`. `above` identifies the folders that it lies in.
fn collect(
    folder: &Path,
    above: &mut Vec<(u64, u64)>,
    pictures: &mut Vec<PathBuf>,
    unreadable: &mut Vec<UnreadableFile>,
) -> Result<(), DatasetError> {
    let this = identity(folder)?;
    if above.contains(&this) {
        unreadable.push(UnreadableFile {
            path: folder.to_owned(),
            problem: "it is a link to a folder that it lies in".to_owned(),
        });
        return Ok(());
    }
    let mut level = Level::list(folder)?;
    pictures.append(&mut level.pictures);
    unreadable.append(&mut level.unusable);
    above.push(this);
    for folder in level.folders {
        collect(&folder, above, pictures, unreadable)?;
    }
    above.pop();
    Ok(())
}

/// Device and inode, which are the same for all paths of a folder.
fn identity(folder: &Path) -> Result<(u64, u64), DatasetError> {
    let metadata = fs::metadata(folder);
    let metadata = metadata.map_err(|error| DatasetError::unreadable(folder, error))?;
    Ok((metadata.dev(), metadata.ino()))
}

#[cfg(test)]
mod tests;
