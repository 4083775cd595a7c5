//! `[routes.NAME]` of a run: teachers of which each gets some of the samples.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Teachers of which each gets some of the samples: one `[routes.NAME]` table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RouteConfig {
    /// What decides the teacher of a sample.
    pub by: RouteBy,
    /// The teacher of all other samples: of other classes, and without a label.
    pub default: String,
    /// The names of the classes whose samples each teacher gets.
    pub teachers: BTreeMap<String, Vec<String>>,
}

/// What decides the teacher of a sample.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RouteBy {
    /// Its hard label; of two samples that are mixed, the one with the larger weight.
    Class,
}
