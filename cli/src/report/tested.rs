//! A student's answers on samples that no training used.

use datasets::Source;

use crate::local::ModelFigures;

/// The answers of a student, beside those of its teacher. All lists have one element per sample.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Tested<'a> {
    /// In label order.
    pub class_names: &'a [String],
    /// True classes.
    pub labels: &'a [Option<usize>],
    /// The student.
    pub student: &'a ModelFigures,
    /// The teacher, if it was evaluated.
    pub teacher: Option<&'a ModelFigures>,
    /// The samples, if they can be read.
    pub samples: Option<&'a dyn Source>,
}

impl<'a> Tested<'a> {
    /// Whether any sample has a label. Otherwise the teacher's classes take the place of labels.
    pub(super) fn is_labelled(&self) -> bool {
        self.labels.iter().any(Option::is_some)
    }

    /// The class that each sample should have: its label or, if no sample has one, the class that the teacher gives it.
    pub(super) fn expected(&self) -> Vec<Option<usize>> {
        match self.teacher {
            Some(teacher) if !self.is_labelled() => {
                teacher.predictions.iter().copied().map(Some).collect()
            }
            _ => self.labels.to_vec(),
        }
    }

    /// The name of a class.
    pub(super) fn name(&self, class: usize) -> &'a str {
        self.class_names.get(class).map_or("?", String::as_str)
    }
}

/// Three classes; six samples of which the last has no label.
#[cfg(test)]
pub(super) mod example {
    use super::*;

    pub(in crate::report) const LABELS: [Option<usize>; 6] =
        [Some(0), Some(0), Some(1), Some(1), Some(2), None];

    pub(in crate::report) fn names() -> Vec<String> {
        ["cat", "<dog>", "bird"].map(str::to_owned).to_vec()
    }

    pub(in crate::report) fn model(predictions: [usize; 6]) -> ModelFigures {
        ModelFigures {
            accuracy: Some(0.6),
            agreement: Some(0.5),
            parameters: Some(1000),
            multiply_adds: Some(2000),
            bytes: Some(4000),
            latency_us: None,
            predictions: predictions.to_vec(),
            confidences: Some(vec![0.9, 0.95, 0.6, 0.5, 0.7, 0.4]),
            divergences: Some(vec![0.1, 0.3, 0.2, 0.0, 0.4, 0.5]),
        }
    }
}
