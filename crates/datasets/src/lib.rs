//! Labelled samples: sources, views, batches.
//!
//! A [`Source`] reads samples at the resolution in which they are stored, one implementation per file format.
//! A [`View`] decides which part of an image an epoch shows; a [`BatchAssembler`] renders that part at the size
//! of each network's input. Every random choice is a pure function of a seed and of what is chosen ([`random`]),
//! never of timing.

mod augmentation;
mod batch;
mod error;
mod gzip;
mod idx;
mod image;
mod in_memory;
mod normalization;
pub mod random;
mod render;
mod sampling;
mod source;
mod split;
mod subset;
mod view;

pub use augmentation::{Augmentation, OutOfRange, RandomResizedCrop};
pub use batch::{Batch, BatchAssembler, IGNORED_LABEL, Targets, Values, fits, read_plain};
pub use error::DatasetError;
pub use idx::load_idx;
pub use image::Image;
pub use in_memory::InMemoryImages;
pub use normalization::Normalization;
pub use render::Renderer;
pub use sampling::EpochSampler;
pub use source::{Layout, Picture, Sample, SampleError, SampleKind, Source};
pub use split::Split;
pub use subset::Subset;
pub use view::{Geometry, View, covering_size};
