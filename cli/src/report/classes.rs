//! The table of classes.

use indicatif::HumanCount;

use super::tested::Tested;
use crate::comparison::percent;

/// Rows that are shown.
const SHOWN: usize = 60;

/// The headings of [`ClassRow::cells`].
pub(super) const HEADINGS: [&str; 7] = [
    "samples",
    "precision",
    "recall",
    "F1",
    "teacher's recall",
    "as teacher",
    "KL from teacher",
];

/// The figures of one class as text; a dash if one is not known.
#[derive(Debug, PartialEq)]
pub(super) struct ClassRow<'a> {
    /// Name of the class.
    pub name: &'a str,
    /// In the order of [`HEADINGS`].
    pub cells: [String; 7],
    /// What the rows are ordered by if there are too many.
    recall: f64,
}

/// The samples of one class.
#[derive(Debug, Clone, Default)]
struct Counts {
    samples: usize,
    /// Labelled samples of any class that the student takes for this one.
    predicted: usize,
    correct: usize,
    teacher_correct: usize,
    agree: usize,
    /// Sum of KL(teacher ‖ student).
    divergence: f64,
}

/// The rows in label order, and how many were left out. If there are too many, those with the smallest recall remain.
pub(super) fn classes<'a>(tested: &Tested<'a>) -> (Vec<ClassRow<'a>>, usize) {
    let counts = count(tested);
    let rows = counts.iter().enumerate().map(|(class, counts)| {
        let name = tested.name(class);
        ClassRow::new(name, counts, tested)
    });
    let mut rows: Vec<_> = rows.collect();
    let left_out = rows.len().saturating_sub(SHOWN);
    if left_out > 0 {
        rows.sort_by(|a, b| a.recall.total_cmp(&b.recall));
        rows.truncate(SHOWN);
    }
    (rows, left_out)
}

fn count(tested: &Tested<'_>) -> Vec<Counts> {
    let mut counts = vec![Counts::default(); tested.class_names.len()];
    for (sample, expected) in tested.expected().into_iter().enumerate() {
        let predicted = tested.student.predictions[sample];
        let Some(expected) = expected else { continue };
        if let Some(counts) = counts.get_mut(predicted) {
            counts.predicted += 1;
        }
        let Some(counts) = counts.get_mut(expected) else {
            continue;
        };
        counts.samples += 1;
        counts.correct += usize::from(predicted == expected);
        if let Some(teacher) = tested.teacher {
            let teachers = teacher.predictions[sample];
            counts.teacher_correct += usize::from(teachers == expected);
            counts.agree += usize::from(teachers == predicted);
        }
        if let Some(divergences) = &tested.student.divergences {
            counts.divergence += divergences[sample];
        }
    }
    counts
}

impl<'a> ClassRow<'a> {
    fn new(name: &'a str, counts: &Counts, tested: &Tested<'_>) -> Self {
        let share = |part: usize, whole: usize| (whole > 0).then(|| part as f64 / whole as f64);
        let labelled = |share: Option<f64>| share.filter(|_| tested.is_labelled());
        let recall = share(counts.correct, counts.samples);
        let precision = share(counts.correct, counts.predicted);
        let f1 = share(2 * counts.correct, counts.samples + counts.predicted);
        let with_teacher = |part| share(part, counts.samples).filter(|_| tested.teacher.is_some());
        let divergence = tested
            .student
            .divergences
            .as_ref()
            .filter(|_| counts.samples > 0);
        let divergence = divergence.map(|_| counts.divergence / counts.samples as f64);
        let cells = [
            Some(HumanCount(counts.samples as u64).to_string()),
            labelled(precision).map(percent),
            labelled(recall).map(percent),
            labelled(f1).map(percent),
            labelled(with_teacher(counts.teacher_correct)).map(percent),
            with_teacher(counts.agree).map(percent),
            divergence.map(|divergence| format!("{divergence:.4}")),
        ];
        Self {
            name,
            cells: cells.map(|cell| cell.unwrap_or_else(|| "–".to_owned())),
            recall: recall.unwrap_or(1.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::tested::example::{LABELS, model, names},
        *,
    };

    #[test]
    fn figures_are_those_of_each_class() {
        let (student, teacher) = (model([0, 1, 1, 1, 0, 2]), model([0, 0, 1, 0, 2, 2]));
        let names = names();
        let tested = Tested {
            class_names: &names,
            labels: &LABELS,
            student: &student,
            teacher: Some(&teacher),
            samples: None,
        };
        let (rows, left_out) = classes(&tested);
        assert_eq!(left_out, 0);
        let cells: Vec<_> = rows
            .iter()
            .map(|row| row.cells.each_ref().map(|it| &**it))
            .collect();
        assert_eq!(
            cells,
            [
                [
                    "2", "50.00 %", "50.00 %", "50.00 %", "100.00 %", "50.00 %", "0.2000"
                ],
                [
                    "2", "66.67 %", "100.00 %", "80.00 %", "50.00 %", "50.00 %", "0.1000"
                ],
                ["1", "–", "0.00 %", "0.00 %", "100.00 %", "0.00 %", "0.4000"],
            ]
        );
        // Without labels, the teacher's classes take their place.
        let unlabelled = Tested {
            labels: &[None; 6],
            ..tested
        };
        let (rows, _) = classes(&unlabelled);
        assert_eq!(rows[0].cells[..3], ["3", "–", "–"]);
        assert_eq!(rows[0].cells[5], "33.33 %");
    }

    #[test]
    fn of_many_classes_the_worst_are_shown() {
        let names: Vec<String> = (0..100).map(|class| class.to_string()).collect();
        let labels: Vec<Option<usize>> = (0..100).map(Some).collect();
        // Classes from 90 on are never recognized.
        let mut student = model([0; 6]);
        student.predictions = (0..100).map(|class| class.min(89)).collect();
        student.divergences = None;
        let tested = Tested {
            class_names: &names,
            labels: &labels,
            student: &student,
            teacher: None,
            samples: None,
        };
        let (rows, left_out) = classes(&tested);
        assert_eq!((rows.len(), left_out), (SHOWN, 100 - SHOWN));
        assert_eq!(
            (rows[0].name, rows[9].name, rows[10].name),
            ("90", "99", "0")
        );
    }
}
