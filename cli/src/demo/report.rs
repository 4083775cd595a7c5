//! The demo's `report.html`.

use super::{
    summary::{Seconds, Summary},
    table::models,
};
use crate::{
    comparison::Figures,
    duration::duration,
    report::{Report, Tested, provenance},
    run_folder::RunFolder,
    runs::RunHistory,
};

/// What the page shows.
#[derive(Debug)]
pub(super) struct DemoReport<'a> {
    pub summary: &'a Summary,
    /// The title and the history of each run.
    pub runs: [(&'static str, &'a RunHistory); 3],
    /// The answers of the served student.
    pub tested: Tested<'a>,
    /// The student's run.
    pub student: &'a RunFolder,
    /// The command line of the demo.
    pub command: String,
}

impl DemoReport<'_> {
    /// The whole page.
    pub(super) fn to_html(&self) -> String {
        let summary = self.summary;
        // Holds: `evaluate` knows the parameters of networks that runs have trained.
        let parameters = |model: Figures| model.parameters.unwrap_or_default().max(1) as f64;
        let ratio = parameters(summary.teacher) / parameters(summary.student);
        let report = Report {
            title: "A small network taught by a large one".to_owned(),
            introduction: format!(
                "A teacher was trained on the labels of Fashion-MNIST. A student with {ratio:.0} times fewer \
                 parameters was distilled from the teacher's soft targets, fine-tuned on the labels, and is served \
                 over gRPC. Every figure is measured on the same {} test images, which no training used.",
                summary.test_samples
            ),
            remarks: vec![
                format!(
                    "The latency of the served model includes the network. The inference service counted {} images \
                     and answered {:.0} images per second with 16 requests in flight.",
                    summary.served.inference_count, summary.served.images_per_second
                ),
                times(summary),
            ],
            models: models(summary),
            runs: self
                .runs
                .map(|(title, history)| (title.to_owned(), history))
                .to_vec(),
            tested: Some(self.tested),
            provenance: provenance(self.student),
            commands: vec![self.command.clone()],
        };
        report.to_html()
    }
}

fn times(summary: &Summary) -> String {
    let Seconds {
        start,
        teacher,
        baseline,
        student,
        evaluate,
        serve,
        total,
        ..
    } = summary.seconds;
    let parts = [
        ("start of the services", start),
        ("teacher", teacher),
        ("same student, no teacher", baseline),
        ("student", student),
        ("evaluation on the test images", evaluate),
        ("test images through gRPC", serve),
    ];
    let parts = parts.map(|(name, seconds)| format!("{name} {}", duration(seconds)));
    let quick = match summary.quick {
        true => " It was a quick run, smaller and less accurate.",
        false => "",
    };
    format!(
        "The demo took {}: {}.{quick}",
        duration(total),
        parts.join(", ")
    )
}

#[cfg(test)]
mod tests {
    use super::{super::summary::tests::example, *};

    #[test]
    fn the_time_of_every_step_is_named() {
        let mut summary = example();
        summary.seconds.teacher = 125.4;
        summary.quick = true;
        let text = times(&summary);
        assert!(text.contains("teacher 2 min 5 s, same student"), "{text}");
        assert!(text.ends_with("less accurate."), "{text}");
    }
}
