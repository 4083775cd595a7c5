//! Labelled images: IDX files, normalization, augmentation, seeded sampling.
//!
//! Images stay u8, [channels, height, width] each, until a network needs floats. Every random
//! choice is a pure function of a seed and of what is chosen ([`random`]), never of timing.

mod augmentation;
mod batch;
mod dataset;
mod gzip;
mod idx;
mod image;
mod normalization;
pub mod random;
mod sampling;

pub use augmentation::Augmentation;
pub use batch::{Batch, BatchAssembler, View};
pub use dataset::{Dataset, DatasetError, Split};
pub use idx::load_idx;
pub use image::Image;
pub use normalization::Normalization;
pub use sampling::EpochSampler;
