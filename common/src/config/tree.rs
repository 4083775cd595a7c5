//! Finding, replacing and removing values in a configuration tree by path.

use std::fmt;

use serde_json::Value;
use serde_path_to_error::{Path, Segment};

/// Values longer than this are cut in messages.
const LONGEST_VALUE: usize = 80;

/// A path of keys and indices from the root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct KeyPath(Vec<Step>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Step {
    Key(String),
    Index(usize),
}

impl KeyPath {
    pub(super) fn of(path: &Path) -> Self {
        let steps = path.iter().filter_map(|segment| match segment {
            Segment::Map { key } => Some(Step::Key(key.clone())),
            Segment::Seq { index } => Some(Step::Index(*index)),
            // An enum's variant is no level of its own in the file.
            Segment::Enum { .. } | Segment::Unknown => None,
        });
        Self(steps.collect())
    }

    pub(super) fn get<'v>(&self, root: &'v Value) -> Option<&'v Value> {
        self.0.iter().try_fold(root, |value, step| match step {
            Step::Key(key) => value.get(key),
            Step::Index(index) => value.get(index),
        })
    }

    /// Puts the value of `defaults` at this path into `root`, or removes what is there where the
    /// defaults have none (or the same). False when nothing could be changed.
    pub(super) fn repair(&self, root: &mut Value, defaults: &Value) -> bool {
        let Some((last, parents)) = self.0.split_last() else {
            return false;
        };
        let default = self.get(defaults).cloned();
        let parent = parents.iter().try_fold(root, |value, step| match step {
            Step::Key(key) => value.get_mut(key),
            Step::Index(index) => value.get_mut(index),
        });
        match (parent, last) {
            (Some(Value::Object(table)), Step::Key(key)) => match default {
                Some(default) if table.get(key) != Some(&default) => {
                    table.insert(key.clone(), default);
                    true
                }
                _ => table.remove(key).is_some(),
            },
            (Some(Value::Array(items)), Step::Index(index)) if *index < items.len() => {
                items.remove(*index);
                true
            }
            _ => false,
        }
    }
}

impl fmt::Display for KeyPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, step) in self.0.iter().enumerate() {
            match step {
                Step::Key(key) if position == 0 => write!(f, "{key}")?,
                Step::Key(key) => write!(f, ".{key}")?,
                Step::Index(index) => write!(f, "[{index}]")?,
            }
        }
        Ok(())
    }
}

/// A value as it is shown in a message.
pub(super) fn shorten(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(LONGEST_VALUE) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}
