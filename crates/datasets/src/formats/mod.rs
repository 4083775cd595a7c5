//! One file per format.

pub(crate) mod cifar;
pub(crate) mod csv;
mod csv_rows;
pub(crate) mod idx;
pub(crate) mod image_folder;
pub(crate) mod numpy;
#[cfg(feature = "parquet")]
pub(crate) mod parquet;
pub(crate) mod web_dataset;

pub use csv_rows::{CsvRows, read_csv_rows};
pub use idx::load_idx;
