//! A teacher that has been loaded.

use crate::{compute::Compute, shared_data::SharedData};

/// A teacher that answers, and the data that it shares with trainers.
#[derive(Clone)]
pub struct LoadedTeacher {
    /// Computes its logits.
    pub compute: Compute,
    /// The data of which trainers may send positions instead of values.
    pub data: Option<SharedData>,
}
