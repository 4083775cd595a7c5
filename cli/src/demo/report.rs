//! `report.html`: a self-contained page with curves, table and confusion matrix.

use askama::Template;
use proto::runs::v1::EpochFinished;

use super::{
    chart::{Chart, Series, Unit, colour_rules},
    summary::{Seconds, Summary},
};
use crate::{
    comparison::{Figures, HEADINGS, Row},
    runs::{PhaseHistory, RunHistory},
};

/// The content of the page.
#[derive(Debug)]
pub(super) struct Report<'a> {
    pub summary: &'a Summary,
    pub rows: &'a [Row],
    /// The title and the history of each run.
    pub runs: [(&'static str, &'a RunHistory); 3],
    pub class_names: &'a [String],
    /// True classes of the test images.
    pub labels: &'a [Option<usize>],
    /// Classes that the served model predicted for these images.
    pub predictions: &'a [usize],
}

/// What the template `report.html` shows.
#[derive(Template)]
#[template(path = "report.html")]
struct Page<'a> {
    summary: &'a Summary,
    /// The teacher's parameters divided by the student's.
    ratio: String,
    total: String,
    throughput: String,
    headings: [&'static str; 6],
    rows: &'a [Row],
    colour_rules: String,
    runs: Vec<RunCharts>,
    class_names: &'a [String],
    confusion: Vec<ConfusionRow<'a>>,
    times: [(&'static str, String); 7],
}

/// The charts of a run: loss and accuracy of each phase.
struct RunCharts {
    title: &'static str,
    charts: Vec<Chart>,
}

/// The predictions for the images of one class.
struct ConfusionRow<'a> {
    name: &'a str,
    cells: Vec<ConfusionCell>,
}

struct ConfusionCell {
    count: usize,
    /// The class in the style sheet.
    kind: &'static str,
    /// The strength of the colour, from 0 to 1.
    strength: f64,
}

impl Report<'_> {
    /// The whole page.
    pub(super) fn to_html(&self) -> String {
        let summary = self.summary;
        // Holds: `evaluate` knows the parameters of networks that runs have trained.
        let parameters = |model: Figures| model.parameters.unwrap_or_default().max(1) as f64;
        let ratio = parameters(summary.teacher) / parameters(summary.student);
        let page = Page {
            summary,
            ratio: format!("{ratio:.0}"),
            total: duration(summary.seconds.total),
            throughput: format!("{:.0}", summary.served.images_per_second),
            headings: HEADINGS,
            rows: self.rows,
            colour_rules: colour_rules(),
            runs: self.runs.map(RunCharts::new).into(),
            class_names: self.class_names,
            confusion: self.confusion(),
            times: times(&summary.seconds),
        };
        // Cannot fail: the page is written to a string.
        page.render().expect("the page renders")
    }

    fn confusion(&self) -> Vec<ConfusionRow<'_>> {
        let classes = self.class_names.len();
        let mut counts = vec![vec![0_usize; classes]; classes];
        for (label, prediction) in self.labels.iter().zip(self.predictions) {
            let row = label.and_then(|label| counts.get_mut(label));
            let cell = row.and_then(|row| row.get_mut(*prediction));
            if let Some(cell) = cell {
                *cell += 1;
            }
        }
        let rows = self.class_names.iter().zip(&counts).enumerate();
        rows.map(|(label, (name, counts))| ConfusionRow::new(label, name, counts))
            .collect()
    }
}

impl RunCharts {
    fn new((title, run): (&'static str, &RunHistory)) -> Self {
        let charts = run.phases.iter().flat_map(phase_charts).collect();
        Self { title, charts }
    }
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

fn phase_charts(phase: &PhaseHistory) -> [Chart; 2] {
    let kind = match phase.kind.as_str() {
        "supervised" => "Hard labels",
        "distill" => "Soft targets",
        "fine_tune" => "Fine-tuning, hard labels",
        other => other,
    };
    let by_epoch = |value: fn(&EpochFinished) -> Option<f64>| {
        let epochs = phase.epochs.iter();
        epochs
            .filter_map(|epoch| Some((f64::from(epoch.epoch), value(epoch)?)))
            .collect()
    };
    let series = |name, points| Series { name, points };
    let loss = Chart {
        title: format!("{kind}: loss"),
        x_label: "epoch",
        series: vec![
            series("some steps", phase.loss.clone()),
            series("epoch", by_epoch(|epoch| Some(epoch.train_loss))),
        ],
        unit: Unit::Number,
    };
    let accuracy = Chart {
        title: format!("{kind}: accuracy"),
        x_label: "epoch",
        series: vec![
            // An empty first series, so that the second has the same colour as in the loss chart.
            series("", Vec::new()),
            series(
                "training images",
                by_epoch(|epoch| Some(epoch.train_accuracy)),
            ),
            series(
                "validation images",
                by_epoch(|epoch| epoch.validation_accuracy),
            ),
        ],
        unit: Unit::Percent,
    };
    [loss, accuracy]
}

fn times(seconds: &Seconds) -> [(&'static str, String); 7] {
    [
        ("Start of the services", seconds.start),
        ("Teacher", seconds.teacher),
        ("Same student, no teacher", seconds.baseline),
        ("Student", seconds.student),
        ("Evaluation on the test images", seconds.evaluate),
        ("Test images through gRPC", seconds.serve),
        ("Total", seconds.total),
    ]
    .map(|(name, seconds)| (name, duration(seconds)))
}

/// Formats a duration: "7.0 s", "2 min 5 s". `indicatif::HumanDuration` would round to minutes.
pub(super) fn duration(seconds: f64) -> String {
    if seconds < 60.0 {
        return format!("{seconds:.1} s");
    }
    let whole = seconds.round() as u64;
    format!("{} min {} s", whole / 60, whole % 60)
}

#[cfg(test)]
mod tests {
    use super::{
        super::{summary::tests::example, table::rows},
        *,
    };

    fn page() -> String {
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
        let teacher = RunHistory {
            phases: vec![phase("supervised")],
        };
        let student = RunHistory {
            phases: vec![phase("distill"), phase("fine_tune")],
        };
        let summary = example();
        let report = Report {
            summary: &summary,
            rows: &rows(&summary),
            runs: [
                ("Teacher", &teacher),
                ("Baseline", &student),
                ("Student", &student),
            ],
            class_names: &["T-shirt/top", "<Bag>"].map(str::to_owned),
            labels: &[0, 0, 0, 1].map(Some),
            predictions: &[0, 0, 1, 1],
        };
        report.to_html()
    }

    #[test]
    fn text_is_escaped_and_every_phase_has_two_charts() {
        let page = page();
        assert!(page.contains("<th>&#60;Bag&#62;</th>"));
        assert!(page.contains("student, served (gRPC)"));
        assert_eq!(page.matches("<svg").count(), 10);
    }

    #[test]
    fn the_page_is_self_contained() {
        let page = page();
        for outside in [
            "http:", "https:", "src=", "<link", "url(", "@import", "<script",
        ] {
            assert!(!page.contains(outside), "{outside}");
        }
    }

    #[test]
    fn the_confusion_matrix_has_the_true_classes_in_rows() {
        let page = page();
        let cell = |kind: &str, share: &str, count: usize| {
            format!("<td class=\"{kind}\" style=\"--share:{share}\">{count}</td>")
        };
        let first = [cell("right", "0.816", 2), cell("wrong", "0.577", 1)].concat();
        let second = [cell("none", "0.000", 0), cell("right", "1.000", 1)].concat();
        for row in [first, second] {
            assert!(page.contains(&row), "{row}");
        }
    }

    #[test]
    fn durations_are_formatted_for_readers() {
        assert_eq!(duration(7.04), "7.0 s");
        assert_eq!(duration(125.4), "2 min 5 s");
    }
}
