//! Parts of the self-contained pages that commands write.

mod chart;
mod table;
mod thumbnails;
mod training;

pub(crate) use chart::{Chart, Series, Unit, colour_rules};
pub(crate) use table::Table;
pub(crate) use thumbnails::Thumbnails;
pub(crate) use training::phase_charts;
