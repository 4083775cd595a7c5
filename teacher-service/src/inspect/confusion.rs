//! Which classes a model takes for which.

use serde::Serialize;

/// How often a model answers each class for the samples of each class of the data.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Confusion {
    /// [classes of the data, classes of the model]
    pub counts: Vec<Vec<usize>>,
    /// Names of the rows.
    pub data_classes: Vec<String>,
    /// Names of the columns.
    pub model_classes: Vec<String>,
}

/// One wrong answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Mistake<'c> {
    /// The class of the samples.
    pub(super) class: &'c str,
    /// The model's answer.
    pub(super) answer: &'c str,
    /// Samples with this answer.
    pub(super) count: usize,
    /// Samples of the class.
    pub(super) samples: usize,
}

impl Confusion {
    /// Counts the answers `predictions` by the classes `labels` of the data.
    pub(super) fn count(
        labels: &[u32],
        predictions: &[usize],
        data_classes: &[String],
        model_classes: &[String],
    ) -> Self {
        let mut counts = vec![vec![0; model_classes.len()]; data_classes.len()];
        for (label, prediction) in labels.iter().zip(predictions) {
            counts[*label as usize][*prediction] += 1;
        }
        Self {
            counts,
            data_classes: data_classes.to_vec(),
            model_classes: model_classes.to_vec(),
        }
    }

    /// The answers that are not `right` (the model's class for each class of the data), the most frequent first.
    pub(super) fn mistakes(&self, right: &[Option<usize>]) -> Vec<Mistake<'_>> {
        let mut mistakes = Vec::new();
        for (class, row) in self.counts.iter().enumerate() {
            let samples = row.iter().sum();
            for (answer, count) in row.iter().enumerate() {
                if *count > 0 && right.get(class).copied().flatten() != Some(answer) {
                    mistakes.push(Mistake {
                        class: &self.data_classes[class],
                        answer: &self.model_classes[answer],
                        count: *count,
                        samples,
                    });
                }
            }
        }
        mistakes.sort_by_key(|mistake| std::cmp::Reverse(mistake.count));
        mistakes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_frequent_mistakes_come_first() {
        let names = ["a", "b"].map(str::to_owned);
        let model = ["a", "b", "c"].map(str::to_owned);
        let confusion = Confusion::count(&[0, 0, 0, 1, 1, 1], &[0, 1, 0, 2, 2, 0], &names, &model);
        assert_eq!(confusion.counts, [[2, 1, 0], [1, 0, 2]]);
        let found = confusion.mistakes(&[Some(0), Some(1)]);
        let shown: Vec<_> = found
            .iter()
            .map(|it| (it.class, it.answer, it.count, it.samples))
            .collect();
        assert_eq!(
            shown,
            [("b", "c", 2, 3), ("a", "b", 1, 3), ("b", "a", 1, 3)]
        );
        // Without a class of the model that is right, every answer is listed.
        assert_eq!(confusion.mistakes(&[None, None])[0].class, "a");
    }
}
