//! The steps of `retort distill`, in order.

use std::time::Instant;

use common::{atomic_file, output::Narration};
use indicatif::HumanDuration;

use super::{
    DistillArguments, DistillError, data::Data, plan::run_config, summary::Summary, teacher,
};
use crate::{
    CliError,
    class_list::shown,
    client::Remote,
    local::{Evaluate, Evaluation, LocalServices, OutputFolder, Processes, TEACHER},
    report,
    runs::{RunClient, submit_and_watch},
    text_path::text_path,
};

/// Name of the run, and of its folder.
const RUN: &str = "run";
/// Name of the file of the figures.
const SUMMARY: &str = "summary.json";

/// A running distillation.
pub(super) struct Steps<'a> {
    arguments: &'a DistillArguments,
    data: Data,
    folder: &'a OutputFolder,
    services: LocalServices,
    /// The current step, for the message if it fails.
    pub(super) doing: &'static str,
}

impl<'a> Steps<'a> {
    /// Prepares the steps without starting processes.
    pub(super) fn new(
        arguments: &'a DistillArguments,
        data: Data,
        folder: &'a OutputFolder,
        processes: Processes,
    ) -> Self {
        Self {
            arguments,
            data,
            folder,
            services: LocalServices::new(processes),
            doing: "starting",
        }
    }

    /// The processes, to stop them.
    pub(super) fn into_processes(self) -> Processes {
        self.services.into_parts().0
    }

    /// Runs all steps.
    pub(super) async fn all(&mut self) -> Result<(), CliError> {
        let begin = Instant::now();
        let teachers = self.start_teachers().await?;
        let class_names = self.class_names(&teachers).await?;

        self.doing = "distilling the student";
        let initial_weights = self.arguments.initial_weights()?;
        let mut read = vec![text_path(&self.data.path)?];
        let baseline = self.arguments.gate.baseline()?;
        let signing_key = self.arguments.signing_key()?;
        let files = initial_weights.iter().chain(&baseline);
        for path in files.chain(&signing_key) {
            read.push(text_path(path)?);
        }
        let trainer = self
            .services
            .start_trainer(self.folder.path(), &read)
            .await?;
        let trainer = RunClient::connect(Remote::trainer(trainer.to_string())).await?;
        let config = run_config(
            self.arguments,
            &self.data,
            &class_names,
            &teachers,
            initial_weights.as_deref(),
        )?;
        let trained = Instant::now();
        let outcome = match submit_and_watch(&trainer, RUN, &config).await {
            Ok(_) => Ok(()),
            // The student is complete.
            Err(withheld @ CliError::Withheld { .. }) => Err(withheld),
            Err(error) => return Err(error),
        };
        let seconds = trained.elapsed().as_secs_f64();

        let evaluation = self.evaluate().await?;
        let summary = Summary::new(self.arguments, &self.data, &evaluation, seconds);
        writeln!(Narration, "\n{}", summary.table());
        let file = self.folder.join(SUMMARY);
        atomic_file::write(&file, &summary.to_json()).map_err(CliError::file(&file))?;
        let file = self.folder.join(report::FILE);
        let html = report::of_run(self.folder.path())?;
        atomic_file::write(&file, html.as_bytes()).map_err(CliError::file(&file))?;
        self.show_result(begin);
        outcome
    }

    async fn start_teachers(&mut self) -> Result<Vec<String>, CliError> {
        self.doing = "starting the teacher";
        let model = self.arguments.teacher_model()?;
        let mut addresses = Vec::new();
        for number in 1..=self.arguments.teachers.get() {
            let name = format!("teacher-{number}");
            let address = self.services.start_teacher(&name, &model).await?;
            addresses.push(address.to_string());
        }
        Ok(addresses)
    }

    /// The student's classes: those of the labels, which the teacher must have too, or the teacher's.
    async fn class_names(&self, teachers: &[String]) -> Result<Vec<String>, CliError> {
        // Holds: at least one teacher was started.
        let described = teacher::describe(&teachers[0]).await?;
        let teachers_classes = described.class_names;
        writeln!(
            Narration,
            "Teacher {:.12}: {} classes ({})",
            described.model_id,
            teachers_classes.len(),
            shown(&teachers_classes)
        );
        let labels = self.data.class_names();
        if labels.is_empty() {
            return Ok(teachers_classes);
        }
        let sorted = |names: &[String]| {
            let mut names = names.to_vec();
            names.sort_unstable();
            names
        };
        if sorted(labels) != sorted(&teachers_classes) {
            let error = DistillError::Classes {
                path: self.data.path.display().to_string(),
                found: shown(labels),
                teacher: shown(&teachers_classes),
            };
            return Err(error.into());
        }
        Ok(labels.to_vec())
    }

    /// Evaluates the models, and the teacher, on samples that no training used.
    async fn evaluate(&mut self) -> Result<Evaluation, CliError> {
        self.doing = "evaluating the student";
        let run = self.folder.join(RUN);
        let config = run.join("config.toml");
        let options = [
            ("--config", text_path(&config)?),
            ("--live-teacher", TEACHER),
        ];
        let mut evaluate = Evaluate::with(&options)
            .model("distilled", &run.join("phases/0-distill"))?
            .model("student", &run.join("artifact"))?
            .onnx("exported", &run.join("artifact/model.onnx"))?;
        if self.arguments.int8 {
            evaluate = evaluate.onnx("int8", &run.join("artifact/int8/model.onnx"))?;
        }
        evaluate.finish(&mut self.services, self.folder).await
    }

    fn show_result(&self, begin: Instant) {
        let artifact = self.folder.join(RUN).join("artifact");
        writeln!(
            Narration,
            "Done in {}. The student: {}; figures: {}; curves, classes and mistakes: {}.",
            HumanDuration(begin.elapsed()),
            artifact.display(),
            self.folder.join(SUMMARY).display(),
            self.folder.join(report::FILE).display(),
        );
    }
}
