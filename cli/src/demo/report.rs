//! `report.html`: a self-contained page with curves, table and confusion matrix.

use std::fmt::Write;

use super::{
    chart::{Chart, Series, Unit},
    summary::{Seconds, Summary},
    table::{HEADINGS, Row},
};
use crate::runs::{PhaseHistory, RunHistory};

const TEMPLATE: &str = include_str!("report.html");

/// The content of the page.
#[derive(Debug)]
pub(super) struct Report<'a> {
    pub summary: &'a Summary,
    pub rows: &'a [Row],
    /// The title and the history of each run.
    pub runs: [(&'static str, &'a RunHistory); 3],
    pub class_names: &'a [String],
    /// True classes of the test images.
    pub labels: &'a [usize],
    /// Classes that the served model predicted for these images.
    pub predictions: &'a [usize],
}

impl Report<'_> {
    /// The whole page.
    pub(super) fn to_html(&self) -> String {
        let summary = self.summary;
        let ratio = summary.teacher.parameters as f64 / summary.student.parameters.max(1) as f64;
        let quick = if summary.quick {
            " · quick run, smaller and less accurate"
        } else {
            ""
        };
        let runs = self.runs.iter();
        fill(&[
            ("seed", summary.seed.to_string()),
            ("quick", quick.to_owned()),
            ("version", summary.retort_version.to_owned()),
            ("ratio", format!("{ratio:.0}")),
            ("samples", summary.test_samples.to_string()),
            ("total", duration(summary.seconds.total)),
            (
                "inference_count",
                summary.served.inference_count.to_string(),
            ),
            (
                "throughput",
                format!("{:.0}", summary.served.images_per_second),
            ),
            ("table", table(self.rows)),
            (
                "training",
                runs.map(|(name, run)| training(name, run)).collect(),
            ),
            ("confusion", self.confusion()),
            ("times", times(&summary.seconds)),
        ])
    }

    fn confusion(&self) -> String {
        let classes = self.class_names.len();
        let mut counts = vec![vec![0_usize; classes]; classes];
        for (label, prediction) in self.labels.iter().zip(self.predictions) {
            let cell = counts
                .get_mut(*label)
                .and_then(|row| row.get_mut(*prediction));
            if let Some(cell) = cell {
                *cell += 1;
            }
        }
        let mut html = "<thead><tr><td></td>".to_owned();
        for name in self.class_names {
            // Writing to a String cannot fail, here and below.
            let _ = write!(html, "<th>{}</th>", escape(name));
        }
        html += "</tr></thead>\n<tbody>\n";
        for (label, (name, row)) in self.class_names.iter().zip(&counts).enumerate() {
            let _ = write!(html, "<tr><th>{}</th>", escape(name));
            let total = row.iter().sum::<usize>().max(1);
            for (prediction, count) in row.iter().enumerate() {
                let kind = match (*count, label == prediction) {
                    (0, _) => "none",
                    (_, true) => "right",
                    (_, false) => "wrong",
                };
                let share = *count as f64 / total as f64;
                // The square root makes a few per cent of errors visible.
                let strength = share.sqrt();
                let _ = write!(
                    html,
                    "<td class=\"{kind}\" style=\"--share:{strength:.3}\">{count}</td>"
                );
            }
            html += "</tr>\n";
        }
        html + "</tbody>\n"
    }
}

/// Replaces every `{{name}}` in the template by its value.
fn fill(values: &[(&str, String)]) -> String {
    let mut page = String::new();
    let mut rest = TEMPLATE;
    while let Some((before, after)) = rest.split_once("{{") {
        page += before;
        let (name, after) = after.split_once("}}").unwrap_or((after, ""));
        let value = values.iter().find(|(known, _)| *known == name);
        // Cannot fail: the template is compiled in, and a test fills it.
        page += &value.expect("every name in the template has a value").1;
        rest = after;
    }
    page + rest
}

fn table(rows: &[Row]) -> String {
    let mut html = "<thead><tr><th></th>".to_owned();
    for heading in HEADINGS {
        let _ = write!(html, "<th>{heading}</th>");
    }
    html += "</tr></thead>\n<tbody>\n";
    for row in rows {
        let _ = write!(html, "<tr><th>{}</th>", escape(row.name));
        for cell in &row.cells {
            let _ = write!(html, "<td>{}</td>", escape(cell));
        }
        html += "</tr>\n";
    }
    html + "</tbody>\n"
}

/// The charts of a run: loss and accuracy of each phase.
fn training(name: &str, run: &RunHistory) -> String {
    let charts: String = run.phases.iter().map(phase_charts).collect();
    format!(
        "<h3>{}</h3>\n<div class=\"charts\">\n{charts}</div>\n",
        escape(name)
    )
}

fn phase_charts(phase: &PhaseHistory) -> String {
    let kind = match phase.kind.as_str() {
        "supervised" => "Hard labels",
        "distill" => "Soft targets",
        "fine_tune" => "Fine-tuning, hard labels",
        other => other,
    };
    let by_epoch = |value: fn(&proto::runs::v1::EpochFinished) -> Option<f64>| {
        let epochs = phase.epochs.iter();
        epochs
            .filter_map(|epoch| Some((f64::from(epoch.epoch), value(epoch)?)))
            .collect()
    };
    let loss = Chart {
        title: format!("{}: loss", escape(kind)),
        x_label: "epoch",
        series: vec![
            Series {
                name: "a few steps",
                points: phase.loss.clone(),
            },
            Series {
                name: "epoch",
                points: by_epoch(|epoch| Some(epoch.train_loss)),
            },
        ],
        unit: Unit::Number,
    };
    let accuracy = Chart {
        title: format!("{}: accuracy", escape(kind)),
        x_label: "epoch",
        series: vec![
            // An empty first series, so that the second has the same colour as in the loss chart.
            Series {
                name: "",
                points: Vec::new(),
            },
            Series {
                name: "training images",
                points: by_epoch(|epoch| Some(epoch.train_accuracy)),
            },
            Series {
                name: "validation images",
                points: by_epoch(|epoch| epoch.validation_accuracy),
            },
        ],
        unit: Unit::Percent,
    };
    loss.to_html() + &accuracy.to_html()
}

fn times(seconds: &Seconds) -> String {
    let lines = [
        ("Start of the services", seconds.start),
        ("Teacher", seconds.teacher),
        ("Same student, no teacher", seconds.baseline),
        ("Student", seconds.student),
        ("Measuring on the test images", seconds.evaluate),
        ("Test images through gRPC", seconds.serve),
        ("All", seconds.total),
    ];
    let line = |(name, seconds)| format!("<dt>{name}</dt><dd>{}</dd>\n", duration(seconds));
    lines.map(line).concat()
}

/// 2 min 5 s
pub(super) fn duration(seconds: f64) -> String {
    match seconds {
        ..60.0 => format!("{seconds:.1} s"),
        _ => {
            let whole = seconds.round() as u64;
            format!("{} min {} s", whole / 60, whole % 60)
        }
    }
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use proto::runs::v1::EpochFinished;

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
            labels: &[0, 0, 0, 1],
            predictions: &[0, 0, 1, 1],
        };
        report.to_html()
    }

    #[test]
    fn every_placeholder_is_filled_and_text_is_escaped() {
        let page = page();
        assert!(!page.contains("{{") && !page.contains("}}"));
        assert!(page.contains("<th>&lt;Bag&gt;</th>"));
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
