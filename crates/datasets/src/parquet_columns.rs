//! Reads columns of Parquet files (<https://parquet.apache.org/docs/file-format/>), value by value.

use std::{fs::File, path::Path};

use parquet::{
    basic::{LogicalType, Type},
    column::reader::get_typed_column_reader,
    data_type::{BoolType, ByteArrayType, DataType, DoubleType, FloatType, Int32Type, Int64Type},
    errors::ParquetError,
    file::reader::{FileReader, SerializedFileReader},
    schema::types::ColumnDescriptor,
};

use crate::{labels::Label, panics};

/// A Parquet file. The decoder may panic on damaged files, which becomes an error.
pub(crate) struct Columns(SerializedFileReader<File>);

impl Columns {
    /// Opens the file and reads its metadata.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(crate) fn open(path: &Path) -> Result<Self, String> {
        if !path.is_file() {
            return Err("it is not a regular file".to_owned());
        }
        let file = File::open(path).map_err(|error| error.to_string())?;
        decoded(|| {
            SerializedFileReader::new(file)
                .map(Self)
                .map_err(|error| describe(&error))
        })
    }

    /// Dotted paths of the columns, for example `image.bytes`.
    pub(crate) fn names(&self) -> Vec<String> {
        let columns = self.0.metadata().file_metadata().schema_descr().columns();
        columns
            .iter()
            .map(|column| column.path().string())
            .collect()
    }

    /// The text stored under `key` in the metadata.
    pub(crate) fn metadata(&self, key: &str) -> Option<&str> {
        let entries = self.0.metadata().file_metadata().key_value_metadata()?;
        entries
            .iter()
            .find(|entry| entry.key == key)?
            .value
            .as_deref()
    }

    /// Whether the column holds byte strings.
    pub(crate) fn holds_bytes(&self, column: usize) -> bool {
        self.column(column).physical_type() == Type::BYTE_ARRAY
    }

    /// Calls `visit` with each byte string of a column.
    ///
    /// # Errors
    /// The row of a missing value, what is wrong with the file, or the first error of `visit`.
    pub(crate) fn bytes(
        &self,
        column: usize,
        mut visit: impl FnMut(&[u8]) -> Result<(), String>,
    ) -> Result<(), String> {
        self.each::<ByteArrayType>(column, |_, value| visit(value.data()))
    }

    /// The values of a column of finite numbers.
    ///
    /// # Errors
    /// The row of a value that is missing or not finite, or what is wrong with the file.
    pub(crate) fn numbers(&self, column: usize) -> Result<Vec<f32>, String> {
        let descriptor = self.column(column);
        let is_unsigned = self.integer_sign(descriptor)?;
        let mut values = Vec::new();
        let mut add = |row: usize, value: f32| {
            if !value.is_finite() {
                return Err(format!("row {row}: not a finite number of 32 bits"));
            }
            values.push(value);
            Ok(())
        };
        match descriptor.physical_type() {
            Type::BOOLEAN => {
                self.each::<BoolType>(column, |row, it| add(row, f32::from(u8::from(*it))))
            }
            Type::INT32 if is_unsigned => {
                self.each::<Int32Type>(column, |row, it| add(row, *it as u32 as f32))
            }
            Type::INT32 => self.each::<Int32Type>(column, |row, it| add(row, *it as f32)),
            Type::INT64 if is_unsigned => {
                self.each::<Int64Type>(column, |row, it| add(row, *it as u64 as f32))
            }
            Type::INT64 => self.each::<Int64Type>(column, |row, it| add(row, *it as f32)),
            Type::FLOAT => self.each::<FloatType>(column, |row, it| add(row, *it)),
            Type::DOUBLE => self.each::<DoubleType>(column, |row, it| add(row, *it as f32)),
            other => Err(format!("values of type {other} are not numbers")),
        }?;
        Ok(values)
    }

    /// The labels of a column of whole numbers or names.
    ///
    /// # Errors
    /// The row of a missing value, or what is wrong with the file.
    pub(crate) fn labels(&self, column: usize) -> Result<Vec<Label>, String> {
        let mut labels = Vec::new();
        match self.column(column).physical_type() {
            Type::BOOLEAN => self.each::<BoolType>(column, |_, it| {
                labels.push(Label::Number((*it).into()));
                Ok(())
            }),
            Type::INT32 => self.each::<Int32Type>(column, |_, it| {
                labels.push(Label::Number((*it).into()));
                Ok(())
            }),
            Type::INT64 => self.each::<Int64Type>(column, |_, it| {
                labels.push(Label::Number(*it));
                Ok(())
            }),
            Type::BYTE_ARRAY => self.each::<ByteArrayType>(column, |row, it| {
                let text =
                    std::str::from_utf8(it.data()).map_err(|_| format!("row {row}: no UTF-8"))?;
                labels.push(Label::parse(text));
                Ok(())
            }),
            other => Err(format!(
                "labels of type {other} are neither whole numbers nor names"
            )),
        }?;
        Ok(labels)
    }

    fn column(&self, column: usize) -> &ColumnDescriptor {
        &self.0.metadata().file_metadata().schema_descr().columns()[column]
    }

    /// Whether integers are unsigned.
    fn integer_sign(&self, column: &ColumnDescriptor) -> Result<bool, String> {
        match column.logical_type_ref() {
            None => Ok(false),
            Some(LogicalType::Integer(integer)) => Ok(!integer.is_signed),
            Some(other) => Err(format!("values of type {other:?} are not plain numbers")),
        }
    }

    /// Calls `visit` with the row and value of each row of a column.
    fn each<T: DataType>(
        &self,
        column: usize,
        mut visit: impl FnMut(usize, &T::T) -> Result<(), String>,
    ) -> Result<(), String> {
        /// Rows that are decoded at a time.
        const ROWS: usize = 64;
        if self.column(column).max_rep_level() > 0 {
            return Err("lists are not supported".to_owned());
        }
        let mut row = 0;
        decoded(|| {
            for group in 0..self.0.num_row_groups() {
                let group = self
                    .0
                    .get_row_group(group)
                    .map_err(|error| describe(&error))?;
                let pages = group
                    .get_column_reader(column)
                    .map_err(|error| describe(&error))?;
                let mut reader = get_typed_column_reader::<T>(pages);
                let (mut values, mut levels) = (Vec::new(), Vec::new());
                loop {
                    values.clear();
                    levels.clear();
                    let read = reader.read_records(ROWS, Some(&mut levels), None, &mut values);
                    let (records, found, _) = read.map_err(|error| describe(&error))?;
                    if records == 0 {
                        break;
                    }
                    if found != records {
                        let most = self.column(column).max_def_level();
                        let missing = levels.iter().position(|level| *level < most).unwrap_or(0);
                        return Err(format!("row {}: the value is missing", row + missing));
                    }
                    for value in &values {
                        visit(row, value)?;
                        row += 1;
                    }
                }
            }
            Ok(())
        })
    }
}

/// The result of `decode`, or the message of its panic.
fn decoded<T>(decode: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
    panics::caught(decode).unwrap_or_else(|message| Err(format!("the decoder failed: {message}")))
}

fn describe(error: &ParquetError) -> String {
    common::text::shorten(&error.to_string(), 200)
}
