//! The steps of the demo, in order.

use std::{net::SocketAddr, time::Instant};

use common::{atomic_file, output::Narration};

use super::{
    DemoArguments,
    recipe::{MODEL, Recipe, Shared},
    report::DemoReport,
    serving::{Served, serve_images},
    summary::{FORMAT_VERSION, Seconds, ServedModelFigures, Summary},
    table::rows,
    test_images::TestImages,
};
use crate::{
    CliError,
    client::Remote,
    command_line,
    comparison::table,
    drawing::{Example, draw_example, screen_ink},
    duration::duration,
    inference::ServedModel,
    local::{
        Evaluate, Evaluation, INFERENCE, InferenceSettings, LocalServices, ModelFigures,
        OutputFolder, Processes, Service, TEACHER,
    },
    report::{self, Tested},
    run_folder::RunFolder,
    runs::{RunClient, RunHistory, submit_and_watch},
    text_path::text_path,
};

const TEACHERS: [&str; 2] = ["teacher-1", "teacher-2"];
/// Number of test images that are drawn at the end.
const DRAWN_IMAGES: usize = 4;

/// A running demo.
pub(super) struct Steps<'a> {
    arguments: &'a DemoArguments,
    recipe: Recipe,
    /// Absolute.
    data: &'a str,
    images: TestImages,
    folder: &'a OutputFolder,
    services: LocalServices,
    seconds: Seconds,
    /// The current step, for the message if the demo ends early.
    pub doing: &'static str,
}

/// The histories of the three runs.
struct Histories {
    teacher: RunHistory,
    baseline: RunHistory,
    student: RunHistory,
}

impl<'a> Steps<'a> {
    /// Prepares the steps without starting processes.
    pub(super) fn new(
        arguments: &'a DemoArguments,
        recipe: Recipe,
        data: &'a str,
        images: TestImages,
        folder: &'a OutputFolder,
        processes: Processes,
    ) -> Self {
        Self {
            arguments,
            recipe,
            data,
            images,
            folder,
            services: LocalServices::new(processes),
            seconds: Seconds::default(),
            doing: "starting",
        }
    }

    /// Returns the processes and the services that are ready.
    pub(super) fn into_services(self) -> (Processes, Vec<Service>) {
        self.services.into_parts()
    }

    /// Runs all steps.
    pub(super) async fn all(&mut self) -> Result<(), CliError> {
        let begin = Instant::now();
        self.introduce();
        let (trainer, inference) = self.start().await?;
        let histories = self.train(&trainer, &inference).await?;
        let evaluation = self.evaluate().await?;
        let (served, mut served_figures) = self.serve(&inference, evaluation.samples).await?;

        let model = |name: &str| evaluation.model(name).map(Into::into);
        let predictions = served.predictions();
        served_figures.accuracy = evaluation.accuracy_of(&predictions);
        served_figures.agreement = evaluation.model(TEACHER)?.agreement_with(&predictions);
        self.seconds.total = begin.elapsed().as_secs_f64();
        let summary = Summary {
            format_version: FORMAT_VERSION,
            retort_version: env!("CARGO_PKG_VERSION"),
            seed: self.arguments.seed,
            quick: self.arguments.quick,
            test_samples: evaluation.samples,
            teacher: model(TEACHER)?,
            baseline: model("baseline")?,
            distilled: model("distilled")?,
            student: model("student")?,
            exported: model("exported")?,
            served: served_figures,
            seconds: self.seconds,
        };
        let rows = rows(&summary);
        writeln!(Narration, "\n{}", table(&rows));
        self.draw_examples(&served)?;
        let exported = evaluation.model("exported")?;
        let served = ModelFigures {
            predictions,
            ..exported.clone()
        };
        let report = DemoReport {
            summary: &summary,
            runs: [
                ("Teacher", &histories.teacher),
                ("The same student without a teacher", &histories.baseline),
                ("Student", &histories.student),
            ],
            tested: Tested {
                class_names: self.images.class_names(),
                labels: &evaluation.labels,
                student: &served,
                teacher: Some(evaluation.model(TEACHER)?),
                samples: Some(self.images.source()),
            },
            student: &RunFolder::read(&self.folder.join("student"))?,
            command: command_line::of_this_process(),
        };
        self.write(report::FILE, report.to_html().as_bytes())?;
        self.write("summary.json", &summary.to_json())?;
        writeln!(
            Narration,
            "Done in {}. Figures: {}; curves, classes and mistakes: {}.",
            duration(summary.seconds.total),
            self.folder.join("summary.json").display(),
            self.folder.join(report::FILE).display(),
        );
        Ok(())
    }

    fn introduce(&self) {
        writeln!(
            Narration,
            "Retort distils Fashion-MNIST: a large network, the teacher, teaches a small one."
        );
        writeln!(
            Narration,
            "Every service is a process on this machine. Ctrl-C ends them all."
        );
        writeln!(Narration, "Output: {}", self.folder.path().display());
        if self.folder.replaced {
            writeln!(Narration, "(replaces the output of an earlier demo)");
        }
    }

    /// Starts the trainer and the inference service.
    async fn start(&mut self) -> Result<(SocketAddr, SocketAddr), CliError> {
        self.doing = "starting the services";
        let begin = Instant::now();
        let trainer = self
            .services
            .start_trainer(self.folder.path(), &[self.data])
            .await?;
        let inference = self
            .services
            .start_inference(&self.folder.join("models"), &InferenceSettings::default())
            .await?;
        self.seconds.start = begin.elapsed().as_secs_f64();
        writeln!(
            Narration,
            "The trainer ({trainer}) and the inference service ({inference}) are ready."
        );
        Ok((trainer, inference))
    }

    async fn train(
        &mut self,
        trainer: &SocketAddr,
        inference: &SocketAddr,
    ) -> Result<Histories, CliError> {
        let trainer = RunClient::connect(Remote::trainer(trainer.to_string())).await?;
        let recipe = self.recipe;

        self.doing = "training the teacher";
        heading(
            1,
            "The teacher learns the training images from their labels (hard labels).",
        );
        let config = recipe.teacher(self.shared());
        let (teacher, seconds) = submit_and_watch(&trainer, "teacher", &config).await?;
        self.seconds.teacher = seconds;

        self.doing = "training the baseline";
        heading(
            2,
            "The baseline: the student's network learns from the labels only, without a teacher.",
        );
        let config = recipe.baseline(self.shared());
        let (baseline, seconds) = submit_and_watch(&trainer, "baseline", &config).await?;
        self.seconds.baseline = seconds;

        self.doing = "distilling the student";
        heading(
            3,
            "The student learns the teacher's probability of every class (soft targets), streamed by \
             two\n   teacher services. Then it is fine-tuned on the labels, exported to ONNX, checked, \
             published\n   and served.",
        );
        let begin = Instant::now();
        let teachers = self.start_teachers().await?;
        let admin = self.services.address(INFERENCE, "admin")?;
        let config = recipe.student(self.shared(), &teachers, admin);
        let (student, _) = submit_and_watch(&trainer, "student", &config).await?;
        self.seconds.student = begin.elapsed().as_secs_f64();
        self.seconds.distill = student.seconds("distill");
        self.seconds.fine_tune = student.seconds("fine_tune");
        writeln!(Narration, "   Model `{MODEL}` is served at {inference}.");
        Ok(Histories {
            teacher,
            baseline,
            student,
        })
    }

    async fn start_teachers(&mut self) -> Result<Vec<SocketAddr>, CliError> {
        let artifact = self.folder.join("teacher/artifact");
        let model = ["--model".to_owned(), text_path(&artifact)?.to_owned()];
        let mut addresses = Vec::new();
        for name in TEACHERS {
            addresses.push(self.services.start_teacher(name, &model).await?);
        }
        Ok(addresses)
    }

    /// Evaluates all models on the test split, which no earlier step has used.
    async fn evaluate(&mut self) -> Result<Evaluation, CliError> {
        self.doing = "measuring on the test images";
        heading(
            4,
            "All models are evaluated in f32 on test images that no training used.",
        );
        let begin = Instant::now();
        let count = self.recipe.test_samples.map(|count| count.to_string());
        let mut options = vec![("--data", self.data)];
        options.extend(count.as_deref().map(|count| ("--test-samples", count)));
        let path = |path: &str| self.folder.join(path);
        let evaluate = Evaluate::with(&options)
            .model(TEACHER, &path("teacher/artifact"))?
            .model("baseline", &path("baseline/artifact"))?
            .model("distilled", &path("student/phases/0-distill"))?
            .model("student", &path("student/artifact"))?
            .onnx("exported", &path("student/artifact/model.onnx"))?;
        let evaluation = evaluate.finish(&mut self.services, self.folder).await?;
        self.seconds.evaluate = begin.elapsed().as_secs_f64();
        Ok(evaluation)
    }

    /// Sends the test images through the inference service.
    async fn serve(
        &mut self,
        inference: &SocketAddr,
        count: usize,
    ) -> Result<(Served, ServedModelFigures), CliError> {
        self.doing = "sending the test images through the inference service";
        heading(
            5,
            "The served student classifies the same test images over gRPC, one request each.",
        );
        let begin = Instant::now();
        let remote = Remote::inference(inference.to_string());
        let model = ServedModel::connect(remote, MODEL, None).await?;
        let description = model.description().await?;
        let preprocessing = description.of_images()?;
        let served = serve_images(&model, &self.images, count, preprocessing).await?;
        let figures = ServedModelFigures {
            accuracy: 0.0,
            agreement: 0.0,
            inference_count: model.inference_count().await?,
            p50_us: served.latency_us(0.50),
            p99_us: served.latency_us(0.99),
            images_per_second: served.images_per_second,
        };
        self.seconds.serve = begin.elapsed().as_secs_f64();
        writeln!(
            Narration,
            "   {count} images sent; the service's statistics count {}. {:.0} images per second.",
            figures.inference_count, figures.images_per_second
        );
        Ok((served, figures))
    }

    fn draw_examples(&self, served: &Served) -> Result<(), CliError> {
        for (index, logits) in served.logits.iter().take(DRAWN_IMAGES).enumerate() {
            let example = Example {
                index,
                pixels: &self.images.pixels(index)?,
                shape: self.images.shape(),
                // Holds: IDX files label every image.
                label: self.images.label(index).unwrap_or_default(),
                logits,
                class_names: self.images.class_names(),
            };
            writeln!(Narration, "{}", draw_example(&example, screen_ink()));
        }
        Ok(())
    }

    fn shared(&self) -> Shared<'_> {
        Shared {
            seed: self.arguments.seed,
            data: self.data,
        }
    }

    fn write(&self, name: &str, bytes: &[u8]) -> Result<(), CliError> {
        let path = self.folder.join(name);
        atomic_file::write(&path, bytes).map_err(CliError::file(path))
    }
}

fn heading(number: u32, text: &str) {
    writeln!(Narration, "\n{number}. {text}");
}
