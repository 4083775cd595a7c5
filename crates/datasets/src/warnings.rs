//! What of a data set spoils training or its evaluation.

use std::fmt;

use serde::Serialize;

use crate::{Inspection, SplitInspection, SplitName};

/// Something that spoils training, or makes an evaluation say too much.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "snake_case", tag = "warning")]
pub enum DataWarning {
    /// Files cannot be used.
    Unreadable {
        /// Number of files.
        files: usize,
    },
    /// A class has many times the training samples of another.
    Imbalance {
        /// The class with the fewest.
        smallest: String,
        /// Its training samples.
        fewest: usize,
        /// The class with the most.
        largest: String,
        /// Its training samples.
        most: usize,
    },
    /// A split lacks classes that the training samples have.
    MissingClasses {
        /// The split.
        split: SplitName,
        /// Names of the classes.
        classes: Vec<String>,
    },
    /// Samples to validate or test on are also samples to train on.
    Leakage {
        /// The split.
        split: SplitName,
        /// Samples of the split that are also in the training split.
        samples: usize,
        /// Samples of the split.
        of: usize,
    },
    /// The same samples have several labels.
    Contradiction {
        /// Different samples, each of which is there with several labels.
        samples: usize,
    },
    /// Samples are there more than once within their split.
    Duplicates {
        /// The split.
        split: SplitName,
        /// Samples that another sample of the split equals, without the first of each.
        samples: usize,
    },
}

/// A class with this many times fewer samples than another is hardly learned.
const IMBALANCE: usize = 10;

/// Names that a text lists.
const LISTED: usize = 8;

impl Inspection {
    /// What a user should look at, the most harmful first.
    pub fn warnings(&self) -> Vec<DataWarning> {
        let mut warnings = Vec::new();
        for split in self
            .splits
            .iter()
            .filter(|split| split.split != SplitName::Train)
        {
            warnings.extend(self.leakage(split));
        }
        let differing = self
            .duplicates
            .iter()
            .filter(|duplicate| duplicate.labels_differ);
        match differing.count() {
            0 => {}
            samples => warnings.push(DataWarning::Contradiction { samples }),
        }
        if !self.unreadable.is_empty() {
            let files = self.unreadable.len();
            warnings.push(DataWarning::Unreadable { files });
        }
        let train = self
            .splits
            .iter()
            .find(|split| split.split == SplitName::Train);
        if let Some(train) = train {
            warnings.extend(imbalance(train));
            let others = self
                .splits
                .iter()
                .filter(|split| split.split != SplitName::Train);
            warnings.extend(others.filter_map(|split| missing_classes(train, split)));
        }
        warnings.extend(
            self.splits
                .iter()
                .filter_map(|split| self.duplicates_within(split.split)),
        );
        warnings
    }

    fn leakage(&self, split: &SplitInspection) -> Option<DataWarning> {
        let shared = self.duplicates.iter().filter(|duplicate| {
            let mut samples = duplicate.samples.iter();
            samples.any(|sample| sample.split == SplitName::Train)
        });
        let samples: usize = shared.map(|duplicate| duplicate.count(split.split)).sum();
        (samples > 0).then_some(DataWarning::Leakage {
            split: split.split,
            samples,
            of: split.samples,
        })
    }

    fn duplicates_within(&self, split: SplitName) -> Option<DataWarning> {
        let more = self
            .duplicates
            .iter()
            .map(|duplicate| duplicate.count(split).saturating_sub(1));
        let samples: usize = more.sum();
        (samples > 0).then_some(DataWarning::Duplicates { split, samples })
    }
}

fn imbalance(train: &SplitInspection) -> Option<DataWarning> {
    let smallest = train.classes.iter().min_by_key(|class| class.samples)?;
    let largest = train.classes.iter().max_by_key(|class| class.samples)?;
    (largest.samples >= IMBALANCE * smallest.samples.max(1)).then(|| DataWarning::Imbalance {
        smallest: smallest.name.clone(),
        fewest: smallest.samples,
        largest: largest.name.clone(),
        most: largest.samples,
    })
}

fn missing_classes(train: &SplitInspection, split: &SplitInspection) -> Option<DataWarning> {
    if split.unlabelled == split.samples {
        return None;
    }
    let pairs = train.classes.iter().zip(&split.classes);
    let missing = pairs.filter(|(train, split)| train.samples > 0 && split.samples == 0);
    let classes: Vec<_> = missing.map(|(train, _)| train.name.clone()).collect();
    (!classes.is_empty()).then_some(DataWarning::MissingClasses {
        split: split.split,
        classes,
    })
}

impl fmt::Display for DataWarning {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable { files } => write!(
                formatter,
                "{files} {} cannot be used; training leaves them out, and refuses the data if they are too many",
                if *files == 1 { "file" } else { "files" }
            ),
            Self::Imbalance {
                smallest,
                fewest,
                largest,
                most,
            } => write!(
                formatter,
                "the classes are unbalanced: `{largest}` has {most} training samples, `{smallest}` has {fewest}"
            ),
            Self::MissingClasses { split, classes } => {
                let more = classes.len().saturating_sub(LISTED);
                let first = classes[..classes.len() - more].join(", ");
                write!(formatter, "the {split} samples lack classes: {first}")?;
                if more > 0 {
                    write!(formatter, " and {more} more")?;
                }
                Ok(())
            }
            Self::Leakage { split, samples, of } => write!(
                formatter,
                "{samples} of {of} {split} samples are also training samples: what they measure was trained on"
            ),
            Self::Contradiction { samples } => {
                write!(
                    formatter,
                    "{samples} different samples are there with several labels"
                )
            }
            Self::Duplicates { split, samples } => write!(
                formatter,
                "{samples} {split} samples repeat another {split} sample value by value"
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use crate::{InMemoryImages, Opened, Source, inspect};

    /// One-pixel images of the classes a, b and c: (pixel, label).
    fn images(samples: &[(u8, u32)]) -> Arc<dyn Source> {
        let names = ["a", "b", "c"].map(str::to_owned).to_vec();
        let pixels = samples.iter().map(|sample| sample.0).collect();
        let labels = samples.iter().map(|sample| Some(sample.1)).collect();
        Arc::new(InMemoryImages::new([1, 1, 1], names, pixels, labels))
    }

    fn warnings(train: &[(u8, u32)], test: &[(u8, u32)]) -> Vec<String> {
        let data = Opened {
            train: images(train),
            validation: None,
            test: Some(images(test)),
            unreadable: vec![],
        };
        let found = inspect(&data, &|_| ()).unwrap().warnings();
        found.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn nothing_is_said_about_sound_data() {
        let train = [(1, 0), (2, 1), (3, 2)];
        assert_eq!(warnings(&train, &[(4, 0), (5, 1), (6, 2)]), [""; 0]);
    }

    #[test]
    fn what_spoils_training_or_evaluation_is_named_with_its_figures() {
        let many: Vec<_> = (0..20)
            .map(|pixel| (pixel, 0))
            .chain([(20, 1), (21, 1), (22, 2)])
            .collect();
        for (train, test, expected) in [
            (
                &many[..],
                &[(100, 0), (101, 1), (102, 2)][..],
                "`a` has 20 training samples, `c` has 1",
            ),
            (
                &[(1, 0), (2, 1), (3, 2)],
                &[(4, 0), (5, 1)],
                "the test samples lack classes: c",
            ),
            (
                &[(1, 0), (2, 1), (3, 2)],
                &[(1, 0), (5, 1), (6, 2)],
                "1 of 3 test samples are also training samples",
            ),
            (
                &[(1, 0), (1, 1), (3, 2)],
                &[(4, 0), (5, 1), (6, 2)],
                "1 different samples are there with several labels",
            ),
            (
                &[(1, 0), (1, 0), (1, 0), (2, 1), (3, 2)],
                &[(4, 0), (5, 1), (6, 2)],
                "2 training samples repeat another training sample",
            ),
        ] {
            let found = warnings(train, test);
            assert!(
                found.iter().any(|warning| warning.contains(expected)),
                "{expected}: {found:?}"
            );
        }
    }
}
