//! Paths of configuration values, such as `phases[0].epochs` and `models."v1.0".threads`.

use std::fmt;

use serde_path_to_error::{Path, Segment};

/// Bounds the depth of a configuration. Every valid path is shorter.
const MOST_STEPS: usize = 32;

/// A path of keys and indices from the root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct KeyPath(Vec<Step>);

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    Key(String),
    Index(usize),
}

impl KeyPath {
    pub(super) fn of(path: &Path) -> Self {
        let steps = path.iter().filter_map(|segment| match segment {
            Segment::Map { key } => Some(Step::Key(key.clone())),
            Segment::Seq { index } => Some(Step::Index(*index)),
            // The variant of an enum is not a level of the file.
            Segment::Enum { .. } | Segment::Unknown => None,
        });
        Self(steps.collect())
    }

    pub(super) fn steps(&self) -> &[Step] {
        &self.0
    }

    /// Parses the key of `key.path=value`, in TOML's notation extended by `[index]`. Returns the path and
    /// the text after the `=`.
    ///
    /// # Errors
    /// A message with the problem.
    pub(super) fn before_equals(text: &str) -> Result<(Self, &str), String> {
        let mut steps = Vec::new();
        let mut rest = text;
        loop {
            let (key, after) = read_key(rest.trim_start())?;
            steps.push(Step::Key(key));
            rest = after.trim_start();
            while let Some(after) = rest.strip_prefix('[') {
                let (index, after) = read_index(after)?;
                steps.push(Step::Index(index));
                rest = after.trim_start();
            }
            if let Some(value) = rest.strip_prefix('=') {
                return Ok((Self::checked(steps)?, value));
            }
            rest = match rest.strip_prefix('.') {
                Some(after) => after,
                None if rest.is_empty() => return Err("has no `=`".to_owned()),
                None => {
                    let problem = "is not expected in a key; quote a name that is not letters, digits, `_` and `-`";
                    return Err(format!("`{rest}` {problem}"));
                }
            };
        }
    }

    /// Parses the name of an environment variable after its prefix, such as `MODELS__v1.0__THREADS`.
    /// Converts keys to lower case, except the keys of the tables `named`: users choose these names.
    ///
    /// # Errors
    /// A message with the problem.
    pub(super) fn of_variable(name: &str, named: &[&str]) -> Result<Self, String> {
        let mut steps = Vec::new();
        for part in name.split("__") {
            let (key, indices) = match part.split_once('[') {
                Some((key, indices)) => (key, Some(indices)),
                None => (part, None),
            };
            if key.is_empty() {
                return Err("a part of the key is empty".to_owned());
            }
            let is_name = match &steps[..] {
                [Step::Key(table)] => named.contains(&table.as_str()),
                _ => false,
            };
            steps.push(Step::Key(if is_name {
                key.to_owned()
            } else {
                key.to_ascii_lowercase()
            }));
            let mut indices = indices;
            while let Some(text) = indices {
                let (index, rest) = read_index(text)?;
                steps.push(Step::Index(index));
                if !(rest.is_empty() || rest.starts_with('[')) {
                    return Err(format!("`{rest}` is not expected after an index"));
                }
                indices = rest.strip_prefix('[');
            }
        }
        Self::checked(steps)
    }

    fn checked(steps: Vec<Step>) -> Result<Self, String> {
        if steps.len() > MOST_STEPS {
            return Err(format!("has more than {MOST_STEPS} parts"));
        }
        Ok(Self(steps))
    }
}

/// Parses the bare or quoted key at the beginning of `text`. Returns it and the rest of the text.
fn read_key(text: &str) -> Result<(String, &str), String> {
    let Some(quote) = text.chars().next().filter(|first| "\"'".contains(*first)) else {
        let bare = |byte: u8| byte.is_ascii_alphanumeric() || b"_-".contains(&byte);
        let end = text.bytes().position(|byte| !bare(byte));
        let (key, rest) = text.split_at(end.unwrap_or(text.len()));
        return match (key.is_empty(), text.chars().next()) {
            (false, _) => Ok((key.to_owned(), rest)),
            (true, Some(other)) if !"=.[".contains(other) => Err(format!(
                "`{other}` is not expected in a key; quote a name that is not letters, digits, `_` and `-`"
            )),
            (true, _) => Err("a part of the key is empty".to_owned()),
        };
    };
    let mut escaped = false;
    let end = text.char_indices().skip(1).find(|(_, letter)| {
        let ends = *letter == quote && !escaped;
        escaped = *letter == '\\' && quote == '"' && !escaped;
        ends
    });
    let (end, _) = end.ok_or_else(|| format!("{text} has no closing quote"))?;
    let (key, rest) = text.split_at(end + 1);
    let table = format!("{key} = 0").parse::<toml::Table>();
    let table = table.map_err(|error| format!("{key}: {}", error.message()))?;
    let key = table.into_iter().next().map(|(key, _)| key);
    Ok((key.unwrap_or_default(), rest))
}

/// Parses an index after its `[`. Returns it and the text after the `]`.
fn read_index(text: &str) -> Result<(usize, &str), String> {
    let (digits, rest) = text.split_once(']').ok_or("a `[` has no `]`")?;
    let index = digits.trim().parse();
    let index = index.map_err(|_| format!("`{digits}` is not an index; the first is 0"))?;
    Ok((index, rest))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_parsed_as_in_toml_with_indices() {
        for (text, path, value) in [
            ("a=1", "a", "1"),
            (" grpc . listen = x=y", "grpc.listen", " x=y"),
            ("phases[0].loss.kind=", "phases[0].loss.kind", ""),
            ("a[1][2]=3", "a[1][2]", "3"),
            ("models.\"v1.0\".threads=4", "models.v1.0.threads", "4"),
            ("models.'a\"=b'.threads=4", "models.a\"=b.threads", "4"),
            ("models.\"a\\\"b\".threads=4", "models.a\"b.threads", "4"),
            ("models.ResNet8.threads=4", "models.ResNet8.threads", "4"),
        ] {
            let (read, rest) = KeyPath::before_equals(text).unwrap();
            assert_eq!((read.to_string().as_str(), rest), (path, value));
        }
        let too_deep = vec!["a"; 33].join(".") + "=1";
        for (text, problem) in [
            ("", "empty"),
            ("=1", "empty"),
            ("a..b=1", "empty"),
            (".a=1", "empty"),
            ("store", "no `=`"),
            ("a b=1", "`b=1` is not expected"),
            ("é=1", "`é` is not expected"),
            ("a[x]=1", "`x` is not an index"),
            ("a[-1]=1", "`-1` is not an index"),
            ("a[0=1", "no `]`"),
            ("models.\"v1.0=1", "no closing quote"),
            (&too_deep, "more than 32 parts"),
        ] {
            let error = KeyPath::before_equals(text).unwrap_err();
            assert!(error.contains(problem), "{text}: {error}");
        }
    }

    #[test]
    fn variables_keep_the_case_of_names_but_not_of_keys() {
        let read = |name| KeyPath::of_variable(name, &["models"]).map(|path| path.to_string());
        for (name, path) in [
            ("GRPC__LISTEN", "grpc.listen"),
            ("grpc__Listen", "grpc.listen"),
            ("PHASES[0]__EPOCHS", "phases[0].epochs"),
            (
                "MODELS__ResNet8__MAX_BATCH_SIZE",
                "models.ResNet8.max_batch_size",
            ),
            ("MODELS__v1.0__THREADS", "models.v1.0.threads"),
            (
                "MODELS__A-b__VERSION_POLICY__LATEST",
                "models.A-b.version_policy.latest",
            ),
            ("GRPC__MODELS__X", "grpc.models.x"),
        ] {
            assert_eq!(read(name).as_deref(), Ok(path));
        }
        for name in ["", "GRPC__", "__GRPC", "A____B", "A[0", "A[0]B"] {
            assert!(read(name).is_err(), "{name}");
        }
    }
}
