//! Turns the labels of tables and arrays into classes.

use std::{collections::BTreeSet, fmt, path::Path};

use crate::DatasetError;

/// A label as a file has it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Label {
    /// A whole number.
    Number(i64),
    /// Anything else.
    Name(String),
}

impl Label {
    /// Reads a label from text: a whole number if it is one.
    pub(crate) fn parse(text: &str) -> Self {
        text.parse()
            .map_or_else(|_| Self::Name(text.to_owned()), Self::Number)
    }
}

impl fmt::Display for Label {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => write!(formatter, "{number}"),
            Self::Name(name) => formatter.write_str(name),
        }
    }
}

/// The classes of a data set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Classes {
    names: Vec<String>,
    /// Whether numbers are positions in `names`.
    by_position: bool,
}

impl Classes {
    /// Named classes. A label is one of the names, or a position in them.
    pub(crate) fn named(names: &[String]) -> Self {
        Self {
            names: names.to_vec(),
            by_position: true,
        }
    }

    /// The numbers from 0 to the largest label, as NumPy's files have them.
    ///
    /// # Errors
    /// If a number is negative or above 65,535, which is no class but a value.
    pub(crate) fn counted(largest: i64, file: &Path) -> Result<Self, DatasetError> {
        const LARGEST: i64 = u16::MAX as i64;
        if !(0..=LARGEST).contains(&largest) {
            let problem = format!("the label {largest} is not between 0 and {LARGEST}");
            return Err(DatasetError::layout(file, problem));
        }
        Ok(Self {
            names: (0..=largest).map(|class| class.to_string()).collect(),
            by_position: true,
        })
    }

    /// The different labels: numbers by size, then names by their bytes.
    pub(crate) fn found<'l>(labels: impl Iterator<Item = &'l Label>) -> Self {
        let different: BTreeSet<_> = labels.collect();
        Self {
            names: different.into_iter().map(Label::to_string).collect(),
            by_position: false,
        }
    }

    /// The index of the class that `label` means.
    pub(crate) fn index(&self, label: &Label) -> Option<u32> {
        let text = label.to_string();
        let named = self.names.iter().position(|name| *name == text);
        let index = named.or_else(|| match label {
            Label::Number(number) if self.by_position => usize::try_from(*number).ok(),
            _ => None,
        });
        // Holds: there are fewer classes than 2^32.
        index
            .filter(|index| *index < self.names.len())
            .map(|index| index as u32)
    }

    /// In label order.
    pub(crate) fn names(&self) -> &[String] {
        &self.names
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_names_or_numbers() {
        let labels = ["10", "9", "cat", "Bird", "9", "-1"].map(Label::parse);
        let classes = Classes::found(labels.iter());
        assert_eq!(classes.names(), ["-1", "9", "10", "Bird", "cat"]);
        assert_eq!(classes.index(&Label::Number(10)), Some(2));
        assert_eq!(classes.index(&Label::parse("dog")), None);
        assert_eq!(classes.index(&Label::Number(0)), None);

        let named = Classes::named(&["cat".into(), "dog".into()]);
        assert_eq!(named.index(&Label::parse("dog")), Some(1));
        assert_eq!(named.index(&Label::Number(1)), Some(1));
        assert_eq!(named.index(&Label::Number(2)), None);
        // A name that is a number is a name first.
        let numbered = Classes::named(&["1".into(), "0".into()]);
        assert_eq!(numbered.index(&Label::Number(1)), Some(0));

        let counted = Classes::counted(3, Path::new("y.npy")).unwrap();
        assert_eq!(counted.names(), ["0", "1", "2", "3"]);
        assert!(Classes::counted(-1, Path::new("y.npy")).is_err());
        assert!(Classes::counted(70_000, Path::new("y.npy")).is_err());
    }
}
