//! Parquet tables: pictures in the layout of Hugging Face's `datasets`, or numbers.

use std::{
    io::{BufWriter, Write},
    path::{Path, PathBuf},
    sync::Arc,
};

use crate::{
    DataSpec, DatasetError, InMemoryRows, Opened, Progress, Source,
    formats::csv::{label_column, require_columns},
    labels::{Classes, Label},
    packed::{Archive, Member, PackedFiles},
    parquet_columns::Columns,
    pictures::Pictures,
    split_files::SplitFiles,
};

/// Columns of encoded pictures: a struct of bytes and path, or the bytes themselves.
const PICTURES: [&str; 4] = ["image.bytes", "img.bytes", "image", "img"];

/// Opens the table `spec.path`, or the folder with `train-00000-of-00002.parquet` and so on.
///
/// A table with a column `image` or `img` of encoded pictures is a source of pictures. Their bytes are copied to
/// a temporary file, because Parquet compresses them in large blocks; it has no name and disappears with the
/// source. Any other table is rows of numbers. The label column is `spec.label_column` or has a usual name; tables
/// of pictures may have none.
///
/// # Errors
/// [`DatasetError`], which names the file, and the row and column of a value that cannot be used.
pub(crate) fn open(
    spec: &DataSpec,
    progress: &(dyn Fn(Progress) + Sync),
) -> Result<Opened, DatasetError> {
    let files = SplitFiles::find(&spec.path, "parquet")?;
    let first = columns(&files.train[0])?;
    let mut unreadable = Vec::new();
    let is_pictures = picture_column(&first).is_some();
    let mut named = spec.class_names.clone();
    if named.is_none() {
        named = class_label_names(&first, &label_name(&first, spec));
    }
    let mut classes: Option<Classes> = named.as_deref().map(Classes::named);
    let mut read = |files: &[PathBuf]| -> Result<Option<Arc<dyn Source>>, DatasetError> {
        if files.is_empty() {
            return Ok(None);
        }
        if is_pictures {
            let (mut packed, labels) = read_pictures(files, spec)?;
            let classes = match &mut classes {
                Some(classes) => classes,
                // Training comes first and decides.
                none => none.insert(found_classes(&labels, &files[0])?),
            };
            for (member, label) in packed.members.iter_mut().zip(&labels) {
                member.label = label
                    .as_ref()
                    .map(|it| index(classes, it, &files[0]))
                    .transpose()?;
            }
            let names = classes.names().to_vec();
            let (pictures, mut broken) = Pictures::scan(packed, names, spec.decoding(), progress);
            unreadable.append(&mut broken);
            return Ok(Some(Arc::new(pictures)));
        }
        let table = Table::read_all(files, spec)?;
        require_columns(&files[0], &table.columns, &numbers_of(&first, spec)?)?;
        let classes = match &mut classes {
            Some(classes) => classes,
            none => none.insert(Classes::found(table.labels.iter())),
        };
        table.source(classes, &files[0]).map(Some)
    };
    // Holds: there is a file to train on.
    let train = read(&files.train)?.expect("a file for training");
    let validation = read(&files.validation)?;
    let test = read(&files.test)?;
    Ok(Opened {
        train,
        validation,
        test,
        unreadable,
    })
}

fn columns(file: &Path) -> Result<Columns, DatasetError> {
    Columns::open(file).map_err(|problem| malformed(file, problem))
}

fn malformed(file: &Path, problem: impl Into<String>) -> DatasetError {
    DatasetError::malformed(file, "Parquet", problem)
}

/// The column of encoded pictures.
fn picture_column(columns: &Columns) -> Option<usize> {
    let names = columns.names();
    let position = |wanted: &&str| names.iter().position(|name| name == wanted);
    PICTURES
        .iter()
        .find_map(position)
        .filter(|column| columns.holds_bytes(*column))
}

/// The name of the label column, whether or not it is there.
fn label_name(columns: &Columns, spec: &DataSpec) -> String {
    let names = columns.names();
    let found = label_column(&names, spec.label_column.as_deref());
    found.map_or_else(|_| "label".to_owned(), |column| names[column].clone())
}

/// Names of the classes in the metadata that `datasets` writes.
fn class_label_names(columns: &Columns, label: &str) -> Option<Vec<String>> {
    let metadata: serde_json::Value =
        serde_json::from_str(columns.metadata("huggingface")?).ok()?;
    let names = metadata
        .get("info")?
        .get("features")?
        .get(label)?
        .get("names")?
        .as_array()?;
    names
        .iter()
        .map(|name| name.as_str().map(str::to_owned))
        .collect()
}

/// Numbers count the classes; names are sorted.
fn found_classes(labels: &[Option<Label>], file: &Path) -> Result<Classes, DatasetError> {
    let labels = || labels.iter().flatten();
    let number = |label: &Label| match label {
        Label::Number(number) => Some(*number),
        Label::Name(_) => None,
    };
    match labels().map(number).collect::<Option<Vec<_>>>() {
        Some(numbers) if numbers.iter().all(|number| *number >= 0) => match numbers.iter().max() {
            Some(largest) => Classes::counted(*largest, file),
            None => Ok(Classes::named(&[])),
        },
        _ => Ok(Classes::found(labels())),
    }
}

fn index(classes: &Classes, label: &Label, file: &Path) -> Result<u32, DatasetError> {
    classes.index(label).ok_or_else(|| {
        let names = common::text::shorten(&classes.names().join(", "), 200);
        let label = common::text::shorten(&label.to_string(), 40);
        malformed(
            file,
            format!("the label `{label}` is none of the classes {names}"),
        )
    })
}

/// Copies the pictures of `files` to a temporary file, and reads their labels.
fn read_pictures(
    files: &[PathBuf],
    spec: &DataSpec,
) -> Result<(PackedFiles, Vec<Option<Label>>), DatasetError> {
    let (mut packed, mut all_labels) = (PackedFiles::default(), Vec::new());
    for (archive, file) in files.iter().enumerate() {
        let columns = columns(file)?;
        let names = columns.names();
        let pictures = picture_column(&columns)
            .ok_or_else(|| malformed(file, "it has no column `image` of encoded pictures"))?;
        let label = label_column(&names, spec.label_column.as_deref());
        let label = match (label, &spec.label_column) {
            (Ok(label), _) => Some(label),
            (Err(problem), Some(_)) => return Err(malformed(file, problem)),
            (Err(_), None) => None,
        };
        let spool = tempfile::tempfile().map_err(|error| temporary(&error))?;
        let archived = Archive {
            path: file.clone(),
            file: Arc::new(spool),
        };
        let mut writer = BufWriter::new(&*archived.file);
        let before = packed.members.len();
        let mut offset = 0;
        let add = |picture: &[u8]| -> Result<(), String> {
            writer
                .write_all(picture)
                .map_err(|error| temporary(&error).to_string())?;
            let length = picture.len() as u64;
            packed.members.push(Member {
                archive: archive as u32,
                name: format!("row {}", packed.members.len() - before),
                offset,
                length,
                label: None,
            });
            offset += length;
            Ok(())
        };
        let in_column = |column: usize, problem: String| {
            malformed(file, format!("column `{}`: {problem}", names[column]))
        };
        columns
            .bytes(pictures, add)
            .map_err(|problem| in_column(pictures, problem))?;
        writer.flush().map_err(|error| temporary(&error))?;
        drop(writer);
        packed.archives.push(archived);
        let count = packed.members.len() - before;
        let labels: Vec<_> = match label {
            None => vec![None; count],
            Some(label) => {
                let labels = columns
                    .labels(label)
                    .map_err(|problem| in_column(label, problem))?;
                // `datasets` writes -1 for a label that is not known.
                let is_known = |label: &Label| *label != Label::Number(-1);
                labels
                    .into_iter()
                    .map(|label| Some(label).filter(is_known))
                    .collect()
            }
        };
        if labels.len() != count {
            return Err(malformed(
                file,
                format!("it has {count} pictures but {} labels", labels.len()),
            ));
        }
        all_labels.extend(labels);
    }
    Ok((packed, all_labels))
}

fn temporary(error: &std::io::Error) -> DatasetError {
    DatasetError::unreadable(
        std::env::temp_dir(),
        format!("a temporary file of its pictures: {error}"),
    )
}

/// Rows of numbers of one split.
#[derive(Default)]
struct Table {
    columns: Vec<String>,
    rows: Vec<f32>,
    labels: Vec<Label>,
}

/// Names of the columns besides the label.
fn numbers_of(columns: &Columns, spec: &DataSpec) -> Result<Vec<String>, DatasetError> {
    let mut names = columns.names();
    let label = label_column(&names, spec.label_column.as_deref());
    names.remove(label.map_err(|problem| malformed(&spec.path, problem))?);
    Ok(names)
}

impl Table {
    fn read_all(files: &[PathBuf], spec: &DataSpec) -> Result<Self, DatasetError> {
        let mut table = Self::default();
        for (number, file) in files.iter().enumerate() {
            let columns = columns(file)?;
            let names = columns.names();
            let label = label_column(&names, spec.label_column.as_deref())
                .map_err(|problem| malformed(file, problem))?;
            let in_column = |column: usize| {
                let name = &names[column];
                move |problem: String| malformed(file, format!("column `{name}`: {problem}"))
            };
            let labels = columns.labels(label).map_err(in_column(label))?;
            let mut values = Vec::new();
            for column in (0..names.len()).filter(|column| *column != label) {
                let numbers = columns.numbers(column).map_err(in_column(column))?;
                if numbers.len() != labels.len() {
                    let problem = format!("{} values but {} labels", numbers.len(), labels.len());
                    return Err(in_column(column)(problem));
                }
                values.push(numbers);
            }
            let found = numbers_of(&columns, spec)?;
            if found.is_empty() {
                return Err(malformed(file, "it has no column besides the label"));
            }
            if number > 0 {
                require_columns(file, &found, &table.columns)?;
            }
            table.columns = found;
            for row in 0..labels.len() {
                table.rows.extend(values.iter().map(|column| column[row]));
            }
            table.labels.extend(labels);
        }
        Ok(table)
    }

    fn source(self, classes: &Classes, file: &Path) -> Result<Arc<dyn Source>, DatasetError> {
        let labels = self
            .labels
            .iter()
            .map(|label| index(classes, label, file).map(Some));
        let labels = labels.collect::<Result<Vec<_>, _>>()?;
        let names = classes.names().to_vec();
        Ok(Arc::new(InMemoryRows::new(
            self.columns.len(),
            names,
            self.rows,
            labels,
        )))
    }
}

#[cfg(test)]
mod tests;
