//! One file per format.

pub(crate) mod cifar;
pub(crate) mod csv;
pub(crate) mod idx;
pub(crate) mod image_folder;
pub(crate) mod numpy;
#[cfg(feature = "parquet")]
pub(crate) mod parquet;
pub(crate) mod web_dataset;

pub use idx::load_idx;
