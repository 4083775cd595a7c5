//! Tables of numbers as comma-separated values (RFC 4180), with a header and a column of labels.

use std::{
    collections::BTreeSet,
    fs::File,
    path::{Path, PathBuf},
    sync::Arc,
};

use csv::{ByteRecord, Reader, ReaderBuilder};

use crate::{
    DataSpec, DatasetError, InMemoryRows, Opened, Source,
    labels::{Classes, Label},
    split_files::SplitFiles,
};

/// Names of the label column where none is set, in any case.
pub(crate) const LABEL_COLUMNS: [&str; 5] = ["label", "class", "target", "species", "y"];

/// Opens the table `spec.path`, or the folder with `train.csv`, `test.csv` and so on.
///
/// Labels are whole numbers or names; the classes are the different labels of the training table, or
/// `spec.class_names`. Every other column is a finite number.
///
/// # Errors
/// [`DatasetError`], which names the file, and the line and column of a value that cannot be used.
pub(crate) fn open(spec: &DataSpec) -> Result<Opened, DatasetError> {
    let files = SplitFiles::find(&spec.path, "csv")?;
    let train = Table::read_all(&files.train, spec)?;
    let classes = match &spec.class_names {
        Some(names) => Classes::named(names),
        None => Classes::found(train.labels.iter()),
    };
    let columns = train.columns.clone();
    let held_out = |files: &[PathBuf]| -> Result<Option<Arc<dyn Source>>, DatasetError> {
        if files.is_empty() {
            return Ok(None);
        }
        let table = Table::read_all(files, spec)?;
        require_columns(&files[0], &table.columns, &columns)?;
        Ok(Some(table.source(&files[0], &classes)?))
    };
    Ok(Opened {
        validation: held_out(&files.validation)?,
        test: held_out(&files.test)?,
        train: train.source(&files.train[0], &classes)?,
        unreadable: Vec::new(),
    })
}

/// Rows of one split.
#[derive(Debug, Default)]
pub(crate) struct Table {
    /// Names of the columns besides the label.
    pub(crate) columns: Vec<String>,
    /// [rows, columns]
    pub(crate) rows: Vec<f32>,
    /// One per row; empty without a label column.
    pub(crate) labels: Vec<Label>,
}

impl Table {
    fn read_all(files: &[PathBuf], spec: &DataSpec) -> Result<Self, DatasetError> {
        let mut table = Self::default();
        for (index, file) in files.iter().enumerate() {
            let found = Self::read(file, spec)?;
            if index > 0 {
                require_columns(file, &found.columns, &table.columns)?;
            }
            table.columns = found.columns;
            table.rows.extend(found.rows);
            table.labels.extend(found.labels);
        }
        Ok(table)
    }

    fn read(file: &Path, spec: &DataSpec) -> Result<Self, DatasetError> {
        let wanted = spec.label_column.as_deref();
        Self::read_with(file, |header| label_column(header, wanted).map(Some))
    }

    /// Reads the table in `file`, whose header `find_label` gets: it returns the position of the label column,
    /// or `None` if there is none.
    pub(crate) fn read_with(
        file: &Path,
        find_label: impl FnOnce(&[String]) -> Result<Option<usize>, String>,
    ) -> Result<Self, DatasetError> {
        let refused = |problem: String| DatasetError::malformed(file, "CSV", problem);
        if !file.is_file() {
            return Err(DatasetError::unreadable(file, "it is not a regular file"));
        }
        let opened = File::open(file).map_err(|error| DatasetError::unreadable(file, error))?;
        let mut reader = ReaderBuilder::new().from_reader(opened);
        let header = reader
            .headers()
            .map_err(|error| refused(describe(&error)))?;
        let header: Vec<String> = header.iter().map(|name| name.trim().to_owned()).collect();
        require_different(&header).map_err(refused)?;
        let label = find_label(&header).map_err(refused)?;
        let mut table = Self {
            columns: header.clone(),
            ..Self::default()
        };
        if let Some(label) = label {
            table.columns.remove(label);
        }
        if table.columns.is_empty() {
            return Err(refused("it has no column besides the label".to_owned()));
        }
        table
            .add_lines(&mut reader, &header, label)
            .map_err(refused)?;
        Ok(table)
    }

    fn add_lines(
        &mut self,
        reader: &mut Reader<File>,
        header: &[String],
        label: Option<usize>,
    ) -> Result<(), String> {
        let mut record = ByteRecord::new();
        while reader
            .read_byte_record(&mut record)
            .map_err(|error| describe(&error))?
        {
            let line = record.position().map_or(0, csv::Position::line);
            for (column, field) in record.iter().enumerate() {
                let place = || format!("line {line}, column `{}`", header[column]);
                let text =
                    std::str::from_utf8(field).map_err(|_| format!("{}: no UTF-8", place()))?;
                let text = text.trim();
                if text.is_empty() {
                    return Err(format!("{}: the value is missing", place()));
                }
                if Some(column) == label {
                    self.labels.push(Label::parse(text));
                    continue;
                }
                let value = text.parse::<f32>().ok().filter(|value| value.is_finite());
                self.rows.push(value.ok_or_else(|| {
                    let text = common::text::shorten(text, 40);
                    format!("{}: `{text}` is not a finite number", place())
                })?);
            }
        }
        Ok(())
    }

    pub(crate) fn source(
        self,
        file: &Path,
        classes: &Classes,
    ) -> Result<Arc<dyn Source>, DatasetError> {
        let index = |(row, label): (usize, &Label)| {
            classes.index(label).map(Some).ok_or_else(|| {
                let label = common::text::shorten(&label.to_string(), 40);
                let names = classes.names().join(", ");
                let names = common::text::shorten(&names, 200);
                let problem =
                    format!("the label `{label}` of row {row} is none of the classes {names}");
                DatasetError::layout(file, problem)
            })
        };
        let labels = self
            .labels
            .iter()
            .enumerate()
            .map(index)
            .collect::<Result<Vec<_>, _>>()?;
        let names = classes.names().to_vec();
        Ok(Arc::new(InMemoryRows::new(
            self.columns.len(),
            names,
            self.rows,
            labels,
        )))
    }
}

/// Two columns of one name: which is the label, or which is meant by another table, would be unclear.
fn require_different(header: &[String]) -> Result<(), String> {
    let mut seen = BTreeSet::new();
    match header.iter().find(|column| !seen.insert(*column)) {
        Some(column) => Err(format!("two of its columns are called `{column}`")),
        None => Ok(()),
    }
}

/// Position of the label column.
pub(crate) fn label_column(header: &[String], wanted: Option<&str>) -> Result<usize, String> {
    let is_named = |names: &[&str]| {
        let is_one = |column: &String| names.iter().any(|name| column.eq_ignore_ascii_case(name));
        header.iter().position(is_one)
    };
    let exact = wanted.and_then(|wanted| header.iter().position(|column| column == wanted));
    let found = match wanted {
        Some(_) => exact,
        None => LABEL_COLUMNS.iter().find_map(|name| is_named(&[*name])),
    };
    found.ok_or_else(|| {
        let columns = common::text::shorten(&header.join(", "), 200);
        match wanted {
            Some(wanted) => format!("it has no column `{wanted}`; its columns are {columns}"),
            None => format!("no column is called `label`; name the label column, one of {columns}"),
        }
    })
}

pub(crate) fn require_columns(
    file: &Path,
    found: &[String],
    expected: &[String],
) -> Result<(), DatasetError> {
    if found == expected {
        return Ok(());
    }
    let pairs = found.iter().zip(expected);
    let different = pairs
        .filter(|(found, expected)| found != expected)
        .map(|(found, _)| found);
    let first = different.chain(found.iter().skip(expected.len())).next();
    let problem = match first {
        Some(column) => format!("its column `{column}` is not that of the training table"),
        None => format!(
            "it has {} columns besides the label, not {}",
            found.len(),
            expected.len()
        ),
    };
    Err(DatasetError::layout(file, problem))
}

/// The error without the text of the file.
fn describe(error: &csv::Error) -> String {
    match error.kind() {
        csv::ErrorKind::UnequalLengths {
            pos,
            expected_len,
            len,
        } => {
            let line = pos.as_ref().map_or(0, csv::Position::line);
            format!("line {line} has {len} values, the header {expected_len}")
        }
        csv::ErrorKind::Utf8 { .. } => "its header is not UTF-8".to_owned(),
        _ => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use proptest::prelude::*;
    use test_support::damage::{cases, foreign_text, in_modest_memory};

    use super::*;
    use crate::{Sample, SampleKind, Shares, open};

    /// As `pandas.DataFrame.to_csv(index=False)` writes it (pandas 3.1).
    const FLOWERS: &str = "sepal length,petal width,species\n5.1,0.2,setosa\n7.0,1.4,versicolor\n\
                           6.3,2.5,\"virginica, wild\"\n-4.9e-1,.25,setosa\n";

    fn opened(files: &[(&str, &str)], edit: impl Fn(&mut DataSpec)) -> Result<Opened, String> {
        let folder = tempfile::tempdir().unwrap();
        for (name, content) in files {
            fs::write(folder.path().join(name), content).unwrap();
        }
        let mut spec = DataSpec::new(folder.path());
        spec.shares = Shares {
            validation: 0.0,
            test: 0.0,
            seed: 0,
        };
        edit(&mut spec);
        open(&spec, &|_| ()).map_err(|error| error.to_string())
    }

    fn row(source: &dyn Source, sample: u32) -> Vec<f32> {
        match source.read(sample).unwrap() {
            Sample::Row(row) => row.into_owned(),
            Sample::Image(_) => panic!("an image"),
        }
    }

    #[test]
    fn a_table_of_numbers_and_names_is_read() {
        let data = opened(&[("train.csv", FLOWERS)], |_| ()).unwrap().train;
        assert_eq!(
            data.class_names(),
            ["setosa", "versicolor", "virginica, wild"]
        );
        assert_eq!(data.kind(), SampleKind::Row { values: 2 });
        assert_eq!(
            (data.label(2), row(&*data, 3)),
            (Some(2), vec![-0.49, 0.25])
        );
    }

    #[test]
    fn labels_may_be_numbers_and_the_column_may_be_named() {
        let text = "digit,a,b\r\n7,1,2\r\n5,3,4\r\n";
        let edit = |spec: &mut DataSpec| spec.label_column = Some("digit".to_owned());
        let data = opened(
            &[("train.csv", text), ("test.csv", "digit,a,b\n5,9,9\n")],
            edit,
        )
        .unwrap();
        assert_eq!(data.train.class_names(), ["5", "7"]);
        assert_eq!(data.test.unwrap().label(0), Some(0));
        let named = |spec: &mut DataSpec| {
            spec.class_names = Some(["no", "yes"].map(str::to_owned).to_vec());
        };
        let data = opened(&[("train.csv", "y,a\n1,5\n0,6\n")], named)
            .unwrap()
            .train;
        assert_eq!(
            (data.label(0), data.class_names()[1].as_str()),
            (Some(1), "yes")
        );
    }

    #[test]
    fn what_is_wrong_is_named_by_line_and_column() {
        for (text, problem) in [
            (
                "a,label\n1,x\n,y\n",
                "line 3, column `a`: the value is missing",
            ),
            (
                "a,label\n1,\n",
                "line 2, column `label`: the value is missing",
            ),
            (
                "a,label\n1,x\nNaN,y\n",
                "line 3, column `a`: `NaN` is not a finite number",
            ),
            ("a,label\n1e39,x\n", "`1e39` is not a finite number"),
            ("a,label\n1,x\n1\n", "line 3 has 1 values, the header 2"),
            (
                "a,b\n1,2\n",
                "no column is called `label`; name the label column, one of a, b",
            ),
            ("label\nx\n", "no column besides the label"),
            ("", "no column"),
        ] {
            let error = opened(&[("train.csv", text)], |_| ()).unwrap_err();
            assert!(
                error.contains(problem) && error.contains("train.csv"),
                "{error}"
            );
        }
        for (test, problem) in [
            (
                "a,label\n1,z\n",
                "label `z` of row 0 is none of the classes x",
            ),
            (
                "b,label\n1,x\n",
                "its column `b` is not that of the training table",
            ),
            ("label,a,b\nx,1,2\n", "its column `b`"),
        ] {
            let files = [("train.csv", "a,label\n1,x\n"), ("test.csv", test)];
            let error = opened(&files, |_| ()).unwrap_err();
            assert!(
                error.contains(problem) && error.contains("test.csv"),
                "{error}"
            );
        }
    }

    proptest! {
        #![proptest_config(cases(300))]

        #[test]
        fn foreign_text_is_a_table_of_finite_numbers_or_an_error(
            text in foreign_text(vec![FLOWERS.to_owned()]),
        ) {
            if let Ok(data) = in_modest_memory(|| opened(&[("train.csv", &text)], |_| ())) {
                for sample in 0..data.train.len() as u32 {
                    prop_assert!(row(&*data.train, sample).iter().all(|value| value.is_finite()));
                    prop_assert!(data.train.label(sample).is_some());
                }
            }
        }
    }
}
