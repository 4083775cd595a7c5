//! The confusion matrix.

use std::{cmp::Reverse, collections::BTreeMap};

use super::tested::Tested;

/// Most classes of a matrix; of more classes, the most frequent confusions are listed.
const MOST_CLASSES: usize = 30;
/// Confusions that are listed.
const LISTED: usize = 30;

/// Which classes the student takes for which.
#[derive(Debug)]
pub(super) enum Confusion<'a> {
    /// One row per expected class.
    Matrix(Vec<ConfusionRow<'a>>),
    /// The most frequent confusions: (expected class, predicted class, samples).
    Pairs(Vec<(&'a str, &'a str, usize)>),
}

/// The predictions for the samples of one class.
#[derive(Debug)]
pub(super) struct ConfusionRow<'a> {
    pub name: &'a str,
    pub cells: Vec<ConfusionCell>,
}

#[derive(Debug)]
pub(super) struct ConfusionCell {
    pub count: usize,
    /// The class in the style sheet.
    pub kind: &'static str,
    /// The strength of the colour, from 0 to 1.
    pub strength: f64,
}

impl<'a> Confusion<'a> {
    pub(super) fn new(tested: &Tested<'a>) -> Self {
        let classes = tested.class_names.len();
        let mut counts = BTreeMap::<(usize, usize), usize>::new();
        for (expected, prediction) in tested.expected().iter().zip(&tested.student.predictions) {
            if let Some(expected) = *expected
                && expected < classes
                && *prediction < classes
            {
                *counts.entry((expected, *prediction)).or_default() += 1;
            }
        }
        if classes > MOST_CLASSES {
            return Self::Pairs(pairs(&counts, tested));
        }
        let rows = (0..classes).map(|expected| {
            let count = |prediction| counts.get(&(expected, prediction)).copied().unwrap_or(0);
            let counts: Vec<usize> = (0..classes).map(count).collect();
            ConfusionRow::new(expected, tested.name(expected), &counts)
        });
        Self::Matrix(rows.collect())
    }
}

fn pairs<'a>(
    counts: &BTreeMap<(usize, usize), usize>,
    tested: &Tested<'a>,
) -> Vec<(&'a str, &'a str, usize)> {
    let wrong = counts
        .iter()
        .filter(|((expected, found), _)| expected != found);
    let mut pairs: Vec<_> = wrong.collect();
    pairs.sort_by_key(|(_, count)| Reverse(**count));
    let named = pairs
        .into_iter()
        .take(LISTED)
        .map(|((expected, found), count)| (tested.name(*expected), tested.name(*found), *count));
    named.collect()
}

impl<'a> ConfusionRow<'a> {
    fn new(label: usize, name: &'a str, counts: &[usize]) -> Self {
        let total = counts.iter().sum::<usize>().max(1);
        let cell = |(prediction, count): (usize, &usize)| ConfusionCell {
            count: *count,
            kind: match (*count, label == prediction) {
                (0, _) => "none",
                (_, true) => "right",
                (_, false) => "wrong",
            },
            // The square root makes small shares of errors visible.
            strength: (*count as f64 / total as f64).sqrt(),
        };
        Self {
            name,
            cells: counts.iter().enumerate().map(cell).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{super::tested::example::model, *};

    #[test]
    fn of_many_classes_the_most_frequent_confusions_are_listed() {
        let names: Vec<String> = (0..40).map(|class| class.to_string()).collect();
        let labels = [3, 3, 7, 7, 7, 9].map(Some);
        let student = model([3, 4, 8, 8, 7, 39]);
        let tested = Tested {
            class_names: &names,
            labels: &labels,
            student: &student,
            teacher: None,
            samples: None,
        };
        let Confusion::Pairs(pairs) = Confusion::new(&tested) else {
            panic!("40 classes make no matrix");
        };
        assert_eq!(pairs, [("7", "8", 2), ("3", "4", 1), ("9", "39", 1)]);
    }
}
