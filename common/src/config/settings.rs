//! Settings outside of the file: environment variables, and `--set` on the command line.

use std::{
    env,
    ffi::{OsStr, OsString},
    os::unix::ffi::{OsStrExt, OsStringExt},
};

use super::{key_path::KeyPath, problems::ConfigProblem, tree::Node};
use crate::os_text::shown;

const NOT_UTF8: &str = "is not UTF-8, which a configuration requires; if the command has an option for this \
                        path (--help), use that";

/// An environment variable that sets a key.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Variable {
    /// The whole name.
    pub name: OsString,
    /// The name without the prefix: `GRPC__LISTEN`.
    pub key: OsString,
    /// The value.
    pub value: OsString,
}

/// Returns the environment variables that begin with `prefix__`.
pub fn environment(prefix: &str) -> Vec<Variable> {
    own(prefix, env::vars_os())
}

fn own(prefix: &str, all: impl Iterator<Item = (OsString, OsString)>) -> Vec<Variable> {
    let prefix = format!("{prefix}__");
    let mut found: Vec<_> = all
        .filter_map(|(name, value)| {
            let key = name.as_bytes().strip_prefix(prefix.as_bytes())?.to_vec();
            let key = OsString::from_vec(key);
            Some(Variable { name, key, value })
        })
        .collect();
    found.sort();
    found
}

impl Variable {
    /// Sets the value in `tree`; see [`KeyPath::of_variable`] for `named`.
    pub(super) fn apply(&self, tree: &mut Node, named: &[&str]) -> Result<(), ConfigProblem> {
        let refused = |message: String| ConfigProblem {
            key: shown(&self.name).into_owned(),
            value: None,
            message,
        };
        let (Some(key), Some(value)) = (self.key.to_str(), self.value.to_str()) else {
            return Err(refused(NOT_UTF8.to_owned()));
        };
        let path = KeyPath::of_variable(key, named).map_err(refused)?;
        tree.set(&path, value.to_owned()).map_err(refused)
    }
}

/// Sets `key.path=value` in `tree`. Spaces around key and value are ignored.
pub(super) fn apply_override(text: &OsStr, tree: &mut Node) -> Result<(), ConfigProblem> {
    let refused = |message: String| ConfigProblem {
        key: format!("--set {}", shown(text)),
        value: None,
        message,
    };
    let text = text.to_str().ok_or_else(|| refused(NOT_UTF8.to_owned()))?;
    let hint = |problem| refused(format!("{problem}; give key.path=value"));
    let (path, value) = KeyPath::before_equals(text).map_err(hint)?;
    tree.set(&path, value.trim().to_owned()).map_err(hint)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_variables_of_the_prefix_are_looked_at() {
        let variable = |name: &[u8], value: &[u8]| {
            (
                OsString::from_vec(name.to_vec()),
                OsString::from_vec(value.to_vec()),
            )
        };
        let all = [
            variable(b"X", b"\xa3"),
            variable(b"\xa3", b"1"),
            variable(b"RETORT__STORE", b"\xa3"),
            variable(b"RETORT_X_Y", b"\xa3"),
            variable(b"RETORT_X__STORE", b"\xa3"),
            variable(b"RETORT_X__GRPC__PORT", b"1"),
        ];
        let own = own("RETORT_X", all.into_iter());
        let names: Vec<_> = own.iter().map(|variable| shown(&variable.name)).collect();
        assert_eq!(names, ["RETORT_X__GRPC__PORT", "RETORT_X__STORE"]);
        let mut tree = Node::Table(Default::default());
        assert_eq!(own[0].apply(&mut tree, &[]), Ok(()));
        let problem = own[1].apply(&mut tree, &[]).unwrap_err().to_string();
        assert!(
            problem.starts_with("RETORT_X__STORE: is not UTF-8"),
            "{problem}"
        );
    }

    #[test]
    fn what_is_not_utf8_is_refused_with_its_bytes_escaped() {
        let text = OsStr::from_bytes(b"store=a\xa3b");
        let problem = apply_override(text, &mut Node::Table(Default::default()));
        let problem = problem.unwrap_err().to_string();
        assert!(
            problem.starts_with("--set store=a\\xa3b: is not UTF-8"),
            "{problem}"
        );
    }
}
