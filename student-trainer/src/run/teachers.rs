//! The teachers that a run uses, as its checkpoints and its manifest name them.

use std::collections::BTreeMap;

use artifacts::manifest::TeacherIdentity;
use common::digest::Sha256;
use serde::{Deserialize, Serialize};

/// A named teacher whose soft targets a run used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UsedTeacher {
    /// Weights, architecture and numerics.
    pub identity: TeacherIdentity,
    /// Digest of the order into which its classes were brought, if it is not that of the data.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub class_order: Option<Sha256>,
}

/// The teachers whose soft targets a run uses.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct RunTeachers {
    /// The teacher of `[teacher]`.
    pub(super) single: Option<UsedTeacher>,
    /// The others, by name.
    pub(super) named: BTreeMap<String, UsedTeacher>,
}

impl RunTeachers {
    /// The teacher that is called `name`; `None` is that of `[teacher]`.
    pub(super) fn get(&self, name: Option<&str>) -> Option<&UsedTeacher> {
        match name {
            Some(name) => self.named.get(name),
            None => self.single.as_ref(),
        }
    }

    /// Replaces the teacher that is called `name`.
    pub(super) fn set(&mut self, name: Option<&str>, teacher: UsedTeacher) {
        match name {
            Some(name) => {
                self.named.insert(name.to_owned(), teacher);
            }
            None => self.single = Some(teacher),
        }
    }
}
