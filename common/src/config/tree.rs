//! A configuration as a tree: values of files, and text from the environment and flags over them.

use std::{collections::BTreeMap, mem};

use ::config::{File, FileFormat, Map, Source as _, ValueKind};
use serde_json::{Number, Value};

use super::key_path::{KeyPath, Step};

/// Messages show at most this many characters of a value.
const LONGEST_VALUE: usize = 80;

/// The key that says which of several types a table is; each type has keys of its own.
const KIND: &str = "kind";

/// A node of a configuration.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Node {
    /// Keys and their values.
    Table(BTreeMap<String, Node>),
    /// Values in order.
    List(Vec<Node>),
    /// A string, finite number or boolean from a file.
    Scalar(Value),
    /// `nan`, `inf` or `-inf` from a file. No key takes them.
    NotFinite(String),
    /// Text from an environment variable or a flag.
    Typed(Typed),
}

/// Text that a user typed as the value of a key. The type of the key decides how it is read: for a text key
/// as it is, for all others as TOML.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Typed {
    text: String,
    /// The table that lower layers have at this key. An inline table in `text` overrides single keys of it, or
    /// replaces it if it is of another kind.
    under: Option<Box<Node>>,
}

impl Node {
    /// Parses a TOML document.
    ///
    /// # Errors
    /// The cause, with line and column if `text` is not TOML.
    pub(super) fn parse(text: &str) -> Result<Self, ::config::ConfigError> {
        File::from_str(text, FileFormat::Toml)
            .collect()
            .map(Self::from)
    }

    /// Sets `text` at `path` and creates missing tables on the way.
    ///
    /// # Errors
    /// The reason why `path` cannot exist.
    pub(super) fn set(&mut self, path: &KeyPath, text: String) -> Result<(), String> {
        let node = path.steps().iter().try_fold(self, Self::child)?;
        let under = match node.take() {
            Self::Typed(typed) => typed.into_toml(),
            other => other,
        };
        let under = matches!(under, Self::Table(_)).then(|| Box::new(under));
        *node = Self::Typed(Typed { text, under });
        Ok(())
    }

    fn child(&mut self, step: &Step) -> Result<&mut Self, String> {
        if let Self::Typed(_) = self
            && let Self::Typed(typed) = self.take()
        {
            *self = typed.into_toml();
        }
        match step {
            Step::Key(key) => {
                if !matches!(self, Self::Table(_)) {
                    *self = Self::Table(BTreeMap::new());
                }
                let Self::Table(table) = self else {
                    return Err("is not a table".to_owned());
                };
                Ok(table.entry(key.clone()).or_insert(Self::EMPTY))
            }
            Step::Index(index) => {
                if !matches!(self, Self::List(_)) {
                    *self = Self::List(Vec::new());
                }
                let Self::List(items) = self else {
                    return Err("is not a list".to_owned());
                };
                let length = items.len();
                if *index == length {
                    items.push(Self::EMPTY);
                }
                let outside = format!("[{index}] is outside a list of {length}");
                items.get_mut(*index).ok_or(outside)
            }
        }
    }

    const EMPTY: Self = Self::Scalar(Value::Null);

    fn take(&mut self) -> Self {
        mem::replace(self, Self::EMPTY)
    }

    /// Overrides the values of `self` by those of `upper`, key by key. A table whose `kind` differs replaces the
    /// other table, because the keys of one kind have no meaning for another.
    pub(super) fn merge(&mut self, upper: Self) {
        match (self, upper) {
            (Self::Table(table), Self::Table(upper)) if !differ_in_kind(table, &upper) => {
                for (key, value) in upper {
                    table.entry(key).or_insert(Self::EMPTY).merge(value);
                }
            }
            (lower, upper) => *lower = upper,
        }
    }

    /// Replaces the value at `path` by the value of `defaults`, or removes it if `defaults` has none or the
    /// same. If `path` leads into typed text, replaces the whole text. Returns false if nothing changed.
    pub(super) fn repair(&mut self, path: &KeyPath, defaults: &Self) -> bool {
        let steps = &path.steps()[..self.walk(path).0];
        let Some((last, parents)) = steps.split_last() else {
            return false;
        };
        let default = defaults.at(steps).cloned();
        match (self.at_mut(parents), last) {
            (Some(Self::Table(table)), Step::Key(key)) => match default {
                Some(default) if table.get(key) != Some(&default) => {
                    table.insert(key.clone(), default);
                    true
                }
                _ => table.remove(key).is_some(),
            },
            (Some(Self::List(items)), Step::Index(index)) if *index < items.len() => {
                items.remove(*index);
                true
            }
            _ => false,
        }
    }

    /// The content of a string.
    fn text(&self) -> Option<String> {
        match self {
            Self::Scalar(Value::String(text)) => Some(text.clone()),
            Self::Typed(typed) => Some(typed.clone().into_text()),
            _ => None,
        }
    }

    /// The value at `path`, or the typed text that contains it, as messages show it.
    pub(super) fn shown(&self, path: &KeyPath) -> Option<String> {
        let (steps, node) = self.walk(path);
        let reached = steps == path.steps().len();
        let node = node.filter(|node| reached || matches!(node, Self::Typed(_)))?;
        let text = match node {
            Self::Typed(typed) => typed.text.clone(),
            Self::NotFinite(text) => text.clone(),
            other => Value::from(other.clone()).to_string(),
        };
        Some(match text.char_indices().nth(LONGEST_VALUE) {
            Some((end, _)) => format!("{}…", &text[..end]),
            None => text,
        })
    }

    /// Follows `path` to its end or to the first typed text. Returns the number of steps, and the node
    /// there.
    fn walk(&self, path: &KeyPath) -> (usize, Option<&Self>) {
        let mut node = self;
        for (taken, step) in path.steps().iter().enumerate() {
            if matches!(node, Self::Typed(_)) {
                return (taken, Some(node));
            }
            match node.at(std::slice::from_ref(step)) {
                Some(next) => node = next,
                None => return (path.steps().len(), None),
            }
        }
        (path.steps().len(), Some(node))
    }

    fn at(&self, steps: &[Step]) -> Option<&Self> {
        steps
            .iter()
            .try_fold(self, |node, step| match (node, step) {
                (Self::Table(table), Step::Key(key)) => table.get(key),
                (Self::List(items), Step::Index(index)) => items.get(*index),
                _ => None,
            })
    }

    fn at_mut(&mut self, steps: &[Step]) -> Option<&mut Self> {
        steps
            .iter()
            .try_fold(self, |node, step| match (node, step) {
                (Self::Table(table), Step::Key(key)) => table.get_mut(key),
                (Self::List(items), Step::Index(index)) => items.get_mut(*index),
                _ => None,
            })
    }
}

impl Typed {
    /// The content of a TOML string in quotes; any other text unchanged.
    pub(super) fn into_text(self) -> String {
        match self.quoted() {
            Some(text) => text,
            None => self.text,
        }
    }

    fn quoted(&self) -> Option<String> {
        if !self.text.starts_with(['"', '\'']) {
            return None;
        }
        match parse_value(&self.text)? {
            Node::Scalar(Value::String(text)) => Some(text),
            _ => None,
        }
    }

    /// The text read as TOML, or as a string if it is not TOML. Ignores the table of lower layers.
    pub(super) fn into_value(self) -> Node {
        parse_value(&self.text).unwrap_or(Node::Scalar(Value::String(self.text)))
    }

    /// Like [`into_value`](Self::into_value), but merges an inline table into the table of lower layers.
    pub(super) fn into_toml(mut self) -> Node {
        let under = self.under.take();
        let value = self.into_value();
        match (under, value) {
            (Some(mut under), value @ Node::Table(_)) => {
                under.merge(value);
                *under
            }
            (_, value) => value,
        }
    }
}

/// Whether both tables have a `kind`, and not the same.
fn differ_in_kind(lower: &BTreeMap<String, Node>, upper: &BTreeMap<String, Node>) -> bool {
    let kind = |table: &BTreeMap<String, Node>| table.get(KIND)?.text();
    kind(lower)
        .zip(kind(upper))
        .is_some_and(|(lower, upper)| lower != upper)
}

/// Parses `text` as one TOML value.
fn parse_value(text: &str) -> Option<Node> {
    let Node::Table(mut table) = Node::parse(&format!("value = {text}")).ok()? else {
        return None;
    };
    // More than one key: the text has several lines, with keys of its own.
    table.remove("value").filter(|_| table.is_empty())
}

impl From<Map<String, ::config::Value>> for Node {
    fn from(table: Map<String, ::config::Value>) -> Self {
        let entries = table.into_iter();
        Self::Table(entries.map(|(key, value)| (key, value.into())).collect())
    }
}

impl From<::config::Value> for Node {
    fn from(value: ::config::Value) -> Self {
        match value.kind {
            ValueKind::Table(table) => table.into(),
            ValueKind::Array(items) => Self::List(items.into_iter().map(Self::from).collect()),
            ValueKind::String(text) => Self::Scalar(text.into()),
            ValueKind::I64(number) => Self::Scalar(number.into()),
            ValueKind::Boolean(truth) => Self::Scalar(truth.into()),
            ValueKind::Float(number) => match Number::from_f64(number) {
                Some(number) => Self::Scalar(number.into()),
                // Rust writes `NaN`; TOML writes `nan`.
                None => Self::NotFinite(number.to_string().to_lowercase()),
            },
            // TOML has no other kinds: no null, and no integers beyond `i64`.
            other => Self::Scalar(other.to_string().into()),
        }
    }
}

/// For messages: typed text and what is not finite become strings.
impl From<Node> for Value {
    fn from(node: Node) -> Self {
        match node {
            Node::Table(table) => {
                let entries = table.into_iter();
                Self::Object(entries.map(|(key, value)| (key, value.into())).collect())
            }
            Node::List(items) => Self::Array(items.into_iter().map(Self::from).collect()),
            Node::Scalar(value) => value,
            Node::NotFinite(text) => Self::String(text),
            Node::Typed(typed) => Self::String(typed.text),
        }
    }
}
