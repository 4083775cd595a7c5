//! `[routes.NAME]` of a run: teachers of which each gets some of the samples.

use std::{collections::BTreeMap, fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// Teachers of which each gets some of the samples: one `[routes.NAME]` table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RouteConfig {
    /// What decides the teacher of a sample.
    pub by: RouteBy,
    /// The teacher of all other samples.
    pub default: String,
    /// The samples of each teacher, in the terms of `by`.
    pub teachers: BTreeMap<String, Vec<String>>,
}

/// What decides the teacher of a sample; of two samples that are mixed, of the one with the larger weight.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RouteBy {
    /// Its hard label. Teachers list names of classes; samples without a label go to the default.
    Class,
    /// Its position in the training split as stored, from 0. Teachers list a [`PositionRange`] or more.
    Position,
    /// Whether it has a hard label. Teachers list [`LABELLED`] or [`UNLABELLED`].
    Labelled,
}

/// Stands for the samples with a hard label in a route by [`RouteBy::Labelled`].
pub const LABELLED: &str = "labelled";
/// Stands for the samples without a hard label in a route by [`RouteBy::Labelled`].
pub const UNLABELLED: &str = "unlabelled";

/// Positions from `start` to before `end`, or to the last: `30000..60000`, `30000..`. Holds one position or more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PositionRange {
    start: u32,
    end: Option<u32>,
}

/// Why a text is not a [`PositionRange`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PositionRangeError {
    /// It is something else.
    #[error("is not a range of positions such as \"0..30000\" or \"30000..\"")]
    Form,
    /// It ends where it starts, or before.
    #[error("is empty: a range ends before its second position")]
    Empty,
}

impl RouteConfig {
    /// The valid ranges of positions, each with its teacher; none if something else decides.
    pub fn ranges(&self) -> impl Iterator<Item = (&str, PositionRange)> {
        let is_by_position = self.by == RouteBy::Position;
        let by_position = self.teachers.iter().filter(move |_| is_by_position);
        by_position.flat_map(|(teacher, listed)| {
            let ranges = listed
                .iter()
                .filter_map(|text| text.parse::<PositionRange>().ok());
            ranges.map(move |range| (teacher.as_str(), range))
        })
    }
}

impl PositionRange {
    /// Whether `position` is in the range.
    pub fn contains(self, position: u32) -> bool {
        self.start <= position && self.end.is_none_or(|end| position < end)
    }

    /// Whether a position is in both ranges.
    pub fn overlaps(self, other: Self) -> bool {
        // If ranges overlap, one of them contains the start of the other.
        self.contains(other.start) || other.contains(self.start)
    }

    /// Whether a data set of `samples` has all positions of the range, and one or more if the range has no end.
    pub fn lies_within(self, samples: usize) -> bool {
        let last = self.end.map_or(self.start, |end| end - 1);
        (last as usize) < samples
    }
}

impl FromStr for PositionRange {
    type Err = PositionRangeError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let position = |text: &str| text.parse::<u32>().map_err(|_| PositionRangeError::Form);
        let (start, end) = text.split_once("..").ok_or(PositionRangeError::Form)?;
        let start = position(start)?;
        let end = match end {
            "" => None,
            end => Some(position(end)?),
        };
        if end.is_some_and(|end| end <= start) {
            return Err(PositionRangeError::Empty);
        }
        Ok(Self { start, end })
    }
}

impl fmt::Display for PositionRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}..", self.start)?;
        self.end.map_or(Ok(()), |end| write!(f, "{end}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(text: &str) -> PositionRange {
        text.parse().unwrap()
    }

    #[test]
    fn a_range_contains_its_start_and_not_its_end() {
        for (text, inside, outside) in [
            ("0..1", vec![0], vec![1, u32::MAX]),
            ("3..5", vec![3, 4], vec![0, 2, 5]),
            ("7..", vec![7, u32::MAX], vec![0, 6]),
        ] {
            assert_eq!(range(text).to_string(), text);
            assert!(inside.iter().all(|it| range(text).contains(*it)), "{text}");
            assert!(
                !outside.iter().any(|it| range(text).contains(*it)),
                "{text}"
            );
        }
    }

    #[test]
    fn other_texts_and_empty_ranges_are_refused() {
        for text in [
            "",
            "..",
            "..5",
            "5",
            "a..b",
            "-1..2",
            "1...3",
            "0..4294967296",
        ] {
            let found = text.parse::<PositionRange>();
            assert_eq!(found, Err(PositionRangeError::Form), "{text}");
        }
        for text in ["0..0", "5..4"] {
            let found = text.parse::<PositionRange>();
            assert_eq!(found, Err(PositionRangeError::Empty), "{text}");
        }
    }

    #[test]
    fn ranges_overlap_if_they_share_a_position() {
        for (one, other, expected) in [
            ("0..5", "5..9", false),
            ("0..5", "4..9", true),
            ("0..9", "3..4", true),
            ("0..5", "5..", false),
            ("6..7", "5..", true),
            ("1..", "9..", true),
            ("2..3", "2..3", true),
        ] {
            let (one, other) = (range(one), range(other));
            assert_eq!(one.overlaps(other), expected, "{one} {other}");
            assert_eq!(other.overlaps(one), expected, "{other} {one}");
        }
    }

    #[test]
    fn a_range_lies_within_data_that_has_its_positions() {
        for (text, samples, expected) in [
            ("0..20", 20, true),
            ("0..21", 20, false),
            ("19..", 20, true),
            ("20..", 20, false),
            ("0..", 0, false),
        ] {
            assert_eq!(range(text).lies_within(samples), expected, "{text}");
        }
    }
}
