//! `retort report`: a self-contained page about a run, for colleagues; other commands write it, too.

use std::path::{Path, PathBuf};

use clap::Args;
use common::{atomic_file, output::Messages};
use datasets::Source;
use serde::Deserialize;

use crate::{
    CliError,
    command_line::quoted,
    duration::duration,
    local::{Evaluation, TEACHER},
    run_folder::{RunFolder, STUDENT},
};

mod calibration;
mod classes;
mod confusion;
mod mistakes;
mod page;
mod provenance;
mod samples;
mod sizes;
mod tested;

pub(crate) use page::Report;
pub(crate) use provenance::provenance;
pub(crate) use tested::Tested;

const EXAMPLES: &str = "\
Examples:
  retort report student/               the folder that `retort distill` made; it has a report already
  retort report runs/student --output student.html

The page shows accuracy, classes and misclassified samples if the models were evaluated. After `retort run`:
  student-trainer evaluate --config runs/student/config.toml --model student=runs/student \\
      --live-teacher teacher --teacher teacher --output runs/student/evaluation.json";

/// Write a page about the run in a folder on this machine.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct ReportArguments {
    /// Folder of a run, finished or not, or a folder that `retort distill` made.
    #[arg(value_name = "FOLDER")]
    folder: PathBuf,
    /// The page's file [default: report.html in the folder].
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
}

/// Name of the page's file.
pub(crate) const FILE: &str = "report.html";

/// The keys of `retort distill`'s `summary.json` that the page shows.
#[derive(Debug, Deserialize)]
struct DistillSummary {
    teacher: String,
    command: Option<String>,
}

/// `retort report`.
///
/// # Errors
/// If the folder holds no run, or a damaged one, or the page cannot be written.
pub(crate) fn execute(arguments: &ReportArguments) -> Result<(), CliError> {
    let html = of_run(&arguments.folder)?;
    let file = arguments.output.clone();
    let file = file.unwrap_or_else(|| arguments.folder.join(FILE));
    atomic_file::write(&file, html.as_bytes()).map_err(CliError::file(&file))?;
    writeln!(Messages, "page: {}", file.display());
    Ok(())
}

/// The page about the run in `folder`.
///
/// # Errors
/// If the folder holds no run, or a damaged one.
pub(crate) fn of_run(folder: &Path) -> Result<String, CliError> {
    let run = RunFolder::read(folder)?;
    let summary = distill_summary(&run);
    let class_names = samples::class_names(&run);
    let mut remarks = vec![remark(&run)];
    let samples = run
        .evaluation
        .as_ref()
        .map(|it| samples::evaluated(&run, it));
    let samples = match samples.transpose() {
        Ok(samples) => samples,
        Err(problem) => {
            remarks.push(format!("Without pictures of the samples: {problem}."));
            None
        }
    };
    let evaluation = run.evaluation.as_ref();
    let tested = evaluation
        .zip(run.evaluated())
        .map(|(evaluation, student)| Tested {
            class_names: &class_names,
            labels: &evaluation.labels,
            student,
            teacher: evaluation.models.get(TEACHER),
            samples: samples.as_ref().map(|samples| samples as &dyn Source),
        });
    let report = Report {
        title: run.name(),
        introduction: introduction(&run, summary.as_ref()),
        remarks,
        models: models(&run),
        runs: vec![("Student".to_owned(), &run.history)],
        tested,
        provenance: provenance(&run),
        commands: commands(&run, summary.and_then(|summary| summary.command)),
    };
    Ok(report.to_html())
}

/// The summary beside the run, if `retort distill` made it.
fn distill_summary(run: &RunFolder) -> Option<DistillSummary> {
    let file = run.path.parent()?.join("summary.json");
    serde_json::from_slice(&std::fs::read(file).ok()?).ok()
}

fn introduction(run: &RunFolder, summary: Option<&DistillSummary>) -> String {
    let key = |table: &str, key: &str| Some(run.config.get(table)?.get(key)?.as_str()?.to_owned());
    let network = key("network", "preset");
    let network = network.map_or_else(String::new, |preset| format!(", a `{preset}` network,"));
    let manifest = run.manifest.as_ref();
    let teachers = manifest.and_then(|manifest| manifest.teachers_text());
    let teacher = match (summary, teachers) {
        (Some(summary), _) => format!("was distilled from {}", summary.teacher),
        (None, Some(teachers)) => format!("was distilled from {teachers}"),
        (None, None) => "was trained".to_owned(),
    };
    let data = key("data", "path").unwrap_or_default();
    format!("This model{network} {teacher} on the data in {data}.")
}

/// What the figures were measured on, and how long the run took.
fn remark(run: &RunFolder) -> String {
    let time = match run.manifest {
        Some(_) => format!("The run took {}.", duration(run.seconds())),
        None => "The run is not finished.".to_owned(),
    };
    match &run.evaluation {
        Some(evaluation) => format!(
            "Measured on {} samples that no training used. {time}",
            evaluation.samples
        ),
        None => format!("The model was not evaluated; see `retort report --help`. {time}"),
    }
}

/// The evaluated models: the teacher first, the others by name; without an evaluation, the student's network.
fn models(run: &RunFolder) -> Vec<(String, crate::comparison::Figures)> {
    let Some(Evaluation { models, .. }) = &run.evaluation else {
        return vec![(STUDENT.to_owned(), run.figures())];
    };
    let mut models: Vec<_> = models
        .iter()
        .map(|(name, figures)| (name.clone(), figures.into()))
        .collect();
    models.sort_by_key(|(name, _)| name != TEACHER);
    models
}

/// The command of `retort distill`, if it is known, and those that repeat and verify the run.
fn commands(run: &RunFolder, distill: Option<String>) -> Vec<String> {
    let path = |path: PathBuf| quoted(&path.to_string_lossy());
    let repeat = format!("retort run {}", path(run.path.join("config.toml")));
    let verify = format!("retort run --verify {}", path(run.path.clone()));
    let of_run = run.manifest.is_some().then_some(verify);
    distill.into_iter().chain([repeat]).chain(of_run).collect()
}

#[cfg(test)]
mod tests;
