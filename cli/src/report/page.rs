//! The page.

use askama::Template;

use super::{
    calibration::{Calibration, calibrations, reliability_diagram},
    classes::{self, classes},
    confusion::Confusion,
    mistakes::{Mistake, mistakes},
    sizes::cost_charts,
    tested::Tested,
};
use crate::{
    comparison::{Figures, HEADINGS, Row},
    page::{Chart, Table, colour_rules, phase_charts},
    runs::RunHistory,
};

/// The content of a report: what was distilled from what, how, and with which result.
#[derive(Debug)]
pub(crate) struct Report<'a> {
    /// One line.
    pub title: String,
    /// A paragraph.
    pub introduction: String,
    /// Paragraphs below the table of models.
    pub remarks: Vec<String>,
    /// The models, in the order of their creation.
    pub models: Vec<(String, Figures)>,
    /// The title and the history of each run.
    pub runs: Vec<(String, &'a RunHistory)>,
    /// The student's answers, if it was evaluated.
    pub tested: Option<Tested<'a>>,
    /// Names and values.
    pub provenance: Vec<(&'static str, String)>,
    /// Commands that give the same result.
    pub commands: Vec<String>,
}

/// What the template `report.html` shows.
#[derive(Template)]
#[template(path = "report.html")]
struct Page<'a> {
    report: &'a Report<'a>,
    /// `None` if there are no models.
    models: Option<Table>,
    costs: Vec<Chart>,
    colour_rules: String,
    runs: Vec<RunCharts<'a>>,
    answers: Option<Answers<'a>>,
}

/// The charts of a run: loss and accuracy of each phase.
struct RunCharts<'a> {
    title: &'a str,
    charts: Vec<Chart>,
}

/// What the student answers.
struct Answers<'a> {
    class_names: &'a [String],
    is_labelled: bool,
    classes: Table,
    more_classes: usize,
    confusion: Confusion<'a>,
    /// Names and expected calibration errors in percent.
    calibration_errors: Vec<(&'static str, String)>,
    charts: [Chart; 1],
    divergence: Option<String>,
    mistakes: Vec<Mistake<'a>>,
    all_mistakes: usize,
}

impl Report<'_> {
    /// The whole page.
    pub(crate) fn to_html(&self) -> String {
        let rows = self.models.iter().map(|(name, figures)| {
            let row = Row::new(name, figures);
            (row.name, row.cells)
        });
        let page = Page {
            report: self,
            models: (!self.models.is_empty()).then(|| Table::new(HEADINGS, rows)),
            costs: cost_charts(&self.models),
            colour_rules: colour_rules(),
            runs: self.runs.iter().map(RunCharts::new).collect(),
            answers: self.tested.as_ref().map(Answers::new),
        };
        // Cannot fail: the page is written to a string.
        page.render().expect("the page renders")
    }
}

impl<'a> RunCharts<'a> {
    fn new((title, run): &'a (String, &RunHistory)) -> Self {
        let charts = run.phases.iter().flat_map(phase_charts).collect();
        Self { title, charts }
    }
}

impl<'a> Answers<'a> {
    fn new(tested: &Tested<'a>) -> Self {
        let (classes, more_classes) = classes(tested);
        let (mistakes, all_mistakes) = mistakes(tested);
        let calibrations = calibrations(tested);
        let error = |(name, it): &(&'static str, Calibration)| {
            (*name, format!("{:.2} %", 100.0 * it.error))
        };
        let divergences = tested.student.divergences.as_ref();
        let divergences = divergences.filter(|it| !it.is_empty() && tested.teacher.is_some());
        let mean = |it: &Vec<f64>| it.iter().sum::<f64>() / it.len() as f64;
        Self {
            class_names: tested.class_names,
            is_labelled: tested.is_labelled(),
            classes: Table::new(
                classes::HEADINGS,
                classes.into_iter().map(|row| (row.name, row.cells)),
            ),
            more_classes,
            confusion: Confusion::new(tested),
            calibration_errors: calibrations.iter().map(error).collect(),
            charts: [reliability_diagram(&calibrations)],
            divergence: divergences.map(|it| format!("{:.4}", mean(it))),
            mistakes,
            all_mistakes,
        }
    }
}

#[cfg(test)]
mod tests {
    use datasets::InMemoryImages;
    use proto::runs::v1::EpochFinished;

    use super::{
        super::tested::example::{LABELS, model, names},
        *,
    };
    use crate::runs::PhaseHistory;

    /// The page, with or without labels and pictures.
    fn page(labels: &[Option<usize>]) -> String {
        let phase = |kind: &str| PhaseHistory {
            kind: kind.to_owned(),
            steps_per_epoch: 10,
            loss: vec![(0.5, 2.0), (1.0, 1.0)],
            epochs: vec![EpochFinished {
                epoch: 1,
                train_loss: 1.5,
                train_accuracy: 0.7,
                ..Default::default()
            }],
        };
        let run = RunHistory {
            phases: vec![phase("distill"), phase("fine_tune")],
        };
        let (student, teacher) = (model([0, 1, 1, 1, 0, 2]), model([0, 0, 1, 0, 2, 2]));
        let names = names();
        let numbers = labels.iter().map(|label| label.map(|label| label as u32));
        let images = InMemoryImages::new([1, 2, 2], names.clone(), vec![9; 24], numbers.collect());
        let report = Report {
            title: "A <student>".to_owned(),
            introduction: "distilled from a <teacher>".to_owned(),
            remarks: vec!["six images".to_owned()],
            models: [("teacher", &teacher), ("student", &student)]
                .map(|(name, model)| (name.to_owned(), model.into()))
                .to_vec(),
            runs: vec![("Student".to_owned(), &run)],
            tested: Some(Tested {
                class_names: &names,
                labels,
                student: &student,
                teacher: Some(&teacher),
                samples: Some(&images),
            }),
            provenance: vec![("seed", "1".to_owned())],
            commands: vec!["retort run 'a b.toml'".to_owned()],
        };
        report.to_html()
    }

    #[test]
    fn the_page_has_every_section_and_text_is_escaped() {
        let page = page(&LABELS);
        for part in [
            "<h1>A &#60;student&#62;</h1>",
            "distilled from a &#60;teacher&#62;",
            "six images",
            "<th>&#60;dog&#62;</th>",
            "retort run &#39;a b.toml&#39;",
            "<dt>seed</dt><dd>1</dd>",
            "2 of the samples",
            "<td>66.67 %</td>",
            "Accuracy by confidence",
            "Accuracy by file size",
        ] {
            assert!(page.contains(part), "{part} is not in {page}");
        }
        // Loss and accuracy of two phases, parameters and file size, reliability.
        assert_eq!(page.matches("<svg").count(), 7);
        assert_eq!(page.matches("<img").count(), 2);
    }

    #[test]
    fn the_page_is_self_contained() {
        let page = page(&LABELS);
        for outside in ["http:", "https:", "<link", "url(", "@import", "<script"] {
            assert!(!page.contains(outside), "{outside}");
        }
        assert_eq!(
            page.matches("src=").count(),
            page.matches("src=\"data:").count()
        );
    }

    #[test]
    fn the_confusion_matrix_has_the_true_classes_in_rows() {
        let page = page(&LABELS);
        let cell = |kind: &str, share: &str, count: usize| {
            format!("<td class=\"{kind}\" style=\"--share:{share}\">{count}</td>")
        };
        let none = cell("none", "0.000", 0);
        let first = [
            cell("right", "0.707", 1),
            cell("wrong", "0.707", 1),
            none.clone(),
        ]
        .concat();
        let last = [cell("wrong", "1.000", 1), none.clone(), none].concat();
        for row in [first, last] {
            assert!(page.contains(&row), "{row} is not in {page}");
        }
    }

    #[test]
    fn without_labels_the_student_is_compared_with_its_teacher() {
        let page = page(&[None; 6]);
        assert!(page.contains("the class that the teacher gives"), "{page}");
        assert!(!page.contains("Calibration"), "{page}");
        assert!(page.contains("3 of the samples"), "{page}");
    }
}
