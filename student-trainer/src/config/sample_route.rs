//! Which teacher a route sends a sample to.

use std::collections::BTreeSet;

use super::PositionRange;

/// The teacher of each sample. Teachers are positions among those of the run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SampleRoute {
    /// What decides the teacher of a sample.
    pub rule: RouteRule,
    /// The teacher of all other samples.
    pub default: usize,
}

/// What decides the teacher of a sample.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RouteRule {
    /// Its hard label: the teacher of each class, in label order.
    Class(Vec<usize>),
    /// The range that its stored position is in. Ranges do not overlap.
    Position(Vec<(PositionRange, usize)>),
    /// Whether it has a hard label.
    Labelled {
        /// The teacher of samples with a label.
        labelled: usize,
        /// The teacher of the others.
        unlabelled: usize,
    },
}

/// What decides a sample's teacher; of two samples that are mixed, of the one with the larger weight.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RoutedSample {
    /// Its position in the data as stored; see [`datasets::Source::stored_position`].
    pub position: u32,
    /// Its hard label: the position of its class, or [`datasets::IGNORED_LABEL`].
    pub label: i64,
}

impl SampleRoute {
    /// The teacher of `sample`.
    pub fn teacher(&self, sample: RoutedSample) -> usize {
        let class = usize::try_from(sample.label).ok();
        match &self.rule {
            RouteRule::Class(of_class) => {
                let teacher = class.and_then(|class| of_class.get(class));
                *teacher.unwrap_or(&self.default)
            }
            RouteRule::Position(ranges) => {
                let mut ranges = ranges.iter();
                let found = ranges.find(|(range, _)| range.contains(sample.position));
                found.map_or(self.default, |(_, teacher)| *teacher)
            }
            RouteRule::Labelled {
                labelled,
                unlabelled,
            } => match class {
                Some(_) => *labelled,
                None => *unlabelled,
            },
        }
    }

    /// All teachers that it may send samples to.
    pub fn teachers(&self) -> BTreeSet<usize> {
        let mut teachers = match &self.rule {
            RouteRule::Class(of_class) => of_class.iter().copied().collect(),
            RouteRule::Position(ranges) => ranges.iter().map(|(_, teacher)| *teacher).collect(),
            RouteRule::Labelled {
                labelled,
                unlabelled,
            } => BTreeSet::from([*labelled, *unlabelled]),
        };
        teachers.insert(self.default);
        teachers
    }
}
