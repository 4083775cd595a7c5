//! Labelled samples: sources, views, batches.
//!
//! A [`Source`] reads samples at the resolution in which they are stored, one implementation per file format.
//! A [`View`] decides which part of an image an epoch shows; a [`BatchAssembler`] renders that part at the size
//! of each network's input. Every random choice is a pure function of a seed and of what is chosen ([`random`]),
//! never of timing.

mod augmentation;
mod batch;
mod cache;
mod decode;
mod detect;
mod error;
mod formats;
mod ground;
mod gzip;
mod image;
mod in_memory;
mod in_memory_rows;
mod inspect;
mod interpolation;
mod labels;
mod normalization;
mod npy;
mod npy_file;
mod open;
mod operations;
mod packed;
mod panics;
#[cfg(feature = "parquet")]
mod parquet_columns;
mod partition;
mod pictures;
pub mod random;
mod region;
mod render;
mod sampling;
mod source;
mod spec;
mod split;
mod split_files;
mod subset;
mod targets;
mod view;
mod view_renderer;
mod warnings;

pub use augmentation::{
    Augmentation, ColorJitter, CutMix, ErasedValue, Mixup, OutOfRange, RandAugment, RandomAffine,
    RandomErasing, RandomResizedCrop,
};
pub use batch::{
    Batch, BatchAssembler, IGNORED_LABEL, MixedLabels, Values, fits, read_plain, read_plain_for,
};
pub use cache::{CacheSpec, cached};
pub use decode::{Alpha, DecodeError, Decoding, PictureFormat, Turning, decode};
pub use error::DatasetError;
pub use formats::{CsvRows, load_idx, read_csv_rows};
pub use ground::{Ground, UnknownGround};
pub use image::Image;
pub use in_memory::InMemoryImages;
pub use in_memory_rows::InMemoryRows;
pub use inspect::{
    ClassCount, Duplicate, Inspection, Position, Sizes, SplitInspection, Statistics, inspect,
};
pub use interpolation::{Interpolation, UnknownInterpolation};
pub use normalization::Normalization;
pub use npy::{npy_samples, whole_npy_samples};
pub use npy_file::{NpyElement, npy_file};
pub use open::open;
pub use render::Renderer;
pub use sampling::EpochSampler;
pub use source::{Layout, Picture, Sample, SampleError, SampleKind, Source};
pub use spec::{
    DataSpec, Format, Opened, Progress, Shares, SplitName, UnknownFormat, UnreadableFile,
};
pub use split::Split;
pub use subset::Subset;
pub use targets::{Target, Targets};
pub use view::{Geometry, View, covering_size};
pub use warnings::DataWarning;
