//! Clients of the run service, with `student-trainer serve` as a real process.

use std::{ffi::OsStr, fs, net::SocketAddr, os::unix::ffi::OsStrExt, path::Path, process::Command};

use proto::runs::v1::{
    CancelRunRequest, GetRunRequest, ListRunsRequest, Run, RunState, SubmitRunRequest,
    WatchRunRequest, WatchRunResponse, run_service_client::RunServiceClient,
    watch_run_response::Event,
};
use student_trainer::metrics::Metric;
use test_support::{
    Process, Teacher, http_get, metric,
    run_toml::{CROSS_ENTROPY, PhaseToml, RunToml, SOFT_CROSS_ENTROPY},
};
use tonic::{Code, Status, Streaming, transport::Channel};
use tonic_types::StatusExt;

mod stopping;

const IMAGES: usize = 32;
const SIDE: usize = 8;
/// Number of epochs of a run that does not end unless a test stops it.
const ENDLESS: usize = 1_000_000;

struct Trainer {
    process: Process,
    client: RunServiceClient<Channel>,
    grpc: SocketAddr,
    metrics: SocketAddr,
    folder: tempfile::TempDir,
}

impl Trainer {
    async fn start() -> Self {
        Self::start_with(&[]).await
    }

    /// Starts the service with further `key=value` settings.
    async fn start_with(settings: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        write_images(folder.path());
        let ready_file = folder.path().join("ready.json");
        let runs = format!("runs_folder={}", folder.path().join("runs").display());
        let mut command = Command::new(env!("CARGO_BIN_EXE_student-trainer"));
        let allowed = format!("allowed_folders=[\"{}\"]", folder.path().display());
        command.arg("serve");
        let fixed = [
            "grpc.listen=127.0.0.1:0",
            "metrics.listen=127.0.0.1:0",
            &runs,
            &allowed,
        ];
        for setting in fixed.iter().chain(settings) {
            command.args(["--set", setting]);
        }
        command.arg("--ready-file").arg(&ready_file);
        let mut process = Process::start(command);
        let addresses = process.ready(&ready_file);
        let client = RunServiceClient::connect(format!("http://{}", addresses["grpc"]));
        Self {
            process,
            client: client.await.unwrap(),
            grpc: addresses["grpc"],
            metrics: addresses["metrics"],
            folder,
        }
    }

    /// The configuration of a small run on this trainer's images.
    fn config(&self, epochs: usize) -> String {
        let data = format!("[data]\npath = \"{}\"", self.folder.path().display());
        let config = RunToml {
            keys: "threads = 1\nexport = { onnx = false }",
            network: &network(),
            phases: &[PhaseToml {
                epochs,
                batch_size: 8,
                schedule: "{ kind = \"constant\", learning_rate = 0.01 }",
                ..PhaseToml::default()
            }],
            tables: &data,
        };
        config.to_string()
    }

    async fn submit(&mut self, name: &str, config_toml: String) -> Result<Run, Status> {
        let name = name.to_owned();
        let request = SubmitRunRequest {
            name,
            config_toml,
            ..Default::default()
        };
        let response = self.client.submit_run(request).await?;
        Ok(response.into_inner().run.unwrap())
    }

    async fn watch(&mut self, run: &Run) -> Streaming<WatchRunResponse> {
        let run_id = run.run_id.clone();
        let response = self.client.watch_run(WatchRunRequest { run_id }).await;
        response.unwrap().into_inner()
    }
}

fn network() -> String {
    format!(
        "input = [1, {SIDE}, {SIDE}]\nclasses = 10\npreset = \"cnn\"\nwidths = [4]\nstrides = [2]"
    )
}

/// Writes 32 images of noise and their labels, for both splits.
fn write_images(folder: &Path) {
    let header = |dimensions: &[usize]| {
        let mut bytes = vec![0, 0, 8, dimensions.len() as u8];
        for dimension in dimensions {
            bytes.extend((*dimension as u32).to_be_bytes());
        }
        bytes
    };
    for split in ["train", "t10k"] {
        let mut images = header(&[IMAGES, SIDE, SIDE]);
        images.extend((0..IMAGES * SIDE * SIDE).map(|place| (place * 37 % 251) as u8));
        let mut labels = header(&[IMAGES]);
        labels.extend((0..IMAGES).map(|image| (image % 10) as u8));
        fs::write(folder.join(format!("{split}-images-idx3-ubyte")), images).unwrap();
        fs::write(folder.join(format!("{split}-labels-idx1-ubyte")), labels).unwrap();
    }
}

/// Collects the events until the stream ends.
async fn all(mut events: Streaming<WatchRunResponse>) -> Vec<Event> {
    let mut all = Vec::new();
    while let Some(response) = events.message().await.unwrap() {
        all.extend(response.event);
    }
    all
}

/// Returns the run's final state and reason, from its last event.
fn ended(events: &[Event]) -> (RunState, String) {
    match events.last() {
        Some(Event::StateChanged(run)) => (run.state(), run.reason.clone()),
        other => panic!("the last event is {other:?}"),
    }
}

async fn wait_for_a_step(events: &mut Streaming<WatchRunResponse>) {
    let is_step = |event| matches!(event, Event::StepProgress(_) | Event::EpochFinished(_));
    loop {
        let response = events.message().await.unwrap();
        if response
            .expect("the run continues")
            .event
            .is_some_and(is_step)
        {
            return;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_ends_and_a_late_watcher_receives_all_events() {
    let mut trainer = Trainer::start().await;
    let run = trainer.submit("small", trainer.config(3)).await.unwrap();
    assert_eq!(run.run_id, "small");
    let events = trainer.watch(&run).await;
    let events = all(events).await;
    assert_eq!(ended(&events), (RunState::Succeeded, String::new()));
    let late = trainer.watch(&run).await;
    let late = all(late).await;
    let epochs = |events: &[Event]| {
        let epoch = |event: &Event| match event {
            Event::EpochFinished(finished) => Some(finished.epoch),
            _ => None,
        };
        events.iter().filter_map(epoch).collect::<Vec<u32>>()
    };
    assert_eq!(
        (epochs(&events), epochs(&late)),
        (vec![1, 2, 3], vec![1, 2, 3])
    );
    for file in [
        "config.toml",
        "metrics.jsonl",
        "artifact/weights.safetensors",
    ] {
        assert!(Path::new(&run.folder).join(file).is_file(), "{file}");
    }
    let again = trainer.submit("small", trainer.config(1)).await.unwrap();
    assert_eq!(again.run_id, "small-2");
    let listed = trainer.client.list_runs(ListRunsRequest {}).await.unwrap();
    assert_eq!(listed.into_inner().runs.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn runs_wait_for_each_other_and_are_cancelled_one_by_one() {
    let mut trainer = Trainer::start().await;
    let running = trainer.submit("a", trainer.config(ENDLESS)).await.unwrap();
    let mut events = trainer.watch(&running).await;
    wait_for_a_step(&mut events).await;
    let waiting = trainer.submit("b", trainer.config(1)).await.unwrap();
    assert_eq!(waiting.state(), RunState::Queued);
    for run in [&waiting, &running] {
        let run_id = run.run_id.clone();
        trainer
            .client
            .cancel_run(CancelRunRequest { run_id })
            .await
            .unwrap();
    }
    let (state, reason) = ended(&all(events).await);
    assert_eq!(
        (state, reason.as_str()),
        (RunState::Cancelled, "cancelled on request")
    );
    assert!(!Path::new(&running.folder).join("manifest.json").exists());
    let events = trainer.watch(&waiting).await;
    assert_eq!(ended(&all(events).await).0, RunState::Cancelled);

    let run_id = running.run_id.clone();
    let error = trainer
        .client
        .cancel_run(CancelRunRequest { run_id })
        .await
        .unwrap_err();
    assert_eq!(error.code(), Code::FailedPrecondition);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_that_does_not_exist_is_refused_at_submission() {
    let mut trainer = Trainer::start().await;
    let config = format!("device = 'cuda:99'\n{}", trainer.config(1));
    let error = trainer.submit("a", config).await.unwrap_err();
    assert_eq!(error.code(), Code::FailedPrecondition);
    assert!(error.message().contains("cuda:99"), "{error}");
    let reason = error.get_details_error_info().unwrap().reason;
    assert_eq!(reason, "DEVICE_UNAVAILABLE");
}

#[tokio::test(flavor = "multi_thread")]
async fn problems_of_a_request_are_reported_at_once() {
    let mut trainer = Trainer::start().await;
    let wrong = trainer.config(0).replace("threads = 1", "threads = 99999");
    let wrong = wrong + "[publish]\nendpoint = 'nowhere'\nmodel = 'm'\n";
    let error = trainer.submit("a", wrong).await.unwrap_err();
    assert_eq!(error.code(), Code::InvalidArgument);
    for key in ["threads", "phases[0].epochs", "publish.endpoint"] {
        assert!(error.message().contains(key), "{key}: {}", error.message());
    }
    let info = error.get_details_error_info().unwrap();
    assert_eq!((&*info.reason, &*info.domain), ("INVALID_CONFIG", "retort"));

    let error = trainer.submit("../a", trainer.config(1)).await.unwrap_err();
    assert_eq!(error.code(), Code::InvalidArgument);
    for run_id in [
        "nobody".to_owned(),
        "x".repeat(100_000),
        "語".repeat(30_000),
    ] {
        let named = format!("`{}", run_id.chars().take(6).collect::<String>());
        let get = trainer.client.get_run(GetRunRequest { run_id });
        let error = get.await.unwrap_err();
        assert_eq!(error.code(), Code::NotFound, "{named}");
        assert!(error.message().contains(&named), "{}", error.message());
    }
    let left = fs::read_dir(trainer.folder.path().join("runs")).unwrap();
    let left: Vec<_> = left.map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, [".queue"], "a refused run leaves no folder");
}

#[tokio::test(flavor = "multi_thread")]
async fn prometheus_sees_a_distillation_and_its_teacher() {
    let mut trainer = Trainer::start().await;
    let folder = tempfile::tempdir().unwrap();
    test_support::write_artifact(folder.path(), &network(), 1);
    let binary =
        test_support::built_beside(env!("CARGO_BIN_EXE_student-trainer"), "teacher-service");
    let teacher = Teacher::start(&binary, folder.path(), &[]);
    let text = http_get(trainer.metrics, "/metrics");
    for metric in Metric::ALL {
        let name = metric.name();
        let later = [Metric::StepSeconds, Metric::WaitSeconds].contains(&metric);
        assert!(text.contains(name) || later, "{name} is not in: {text}");
    }

    let config = trainer.config(ENDLESS);
    let config = config.replace(CROSS_ENTROPY, SOFT_CROSS_ENTROPY);
    let config = format!("{config}\n[teacher]\nendpoints = [\"{}\"]", teacher.grpc);
    let run = trainer.submit("a", config).await.unwrap();
    let mut events = trainer.watch(&run).await;
    wait_for_a_step(&mut events).await;
    for (line, value) in [
        ("retort_trainer_runs{state=\"running\"}", 1.0),
        ("retort_trainer_phase{kind=\"distill\"}", 1.0),
        ("retort_trainer_phase{kind=\"supervised\"}", 0.0),
        ("retort_trainer_phase_epochs", ENDLESS as f64),
        ("retort_trainer_epoch_steps", IMAGES as f64 / 8.0),
        ("retort_trainer_learning_rate", 0.01),
        ("retort_trainer_teachers", 1.0),
    ] {
        assert_eq!(metric(trainer.metrics, line), value, "{line}");
    }
    let samples = || metric(trainer.metrics, "retort_trainer_samples_total");
    let before = samples();
    test_support::eventually("more samples", || (samples() > before).then_some(()));
    assert!(metric(trainer.metrics, "retort_trainer_loss") > 0.0);
    // Both values from the same page.
    let text = test_support::http_get(trainer.metrics, "/metrics");
    let [steps, waits] = ["step", "wait"]
        .map(|name| test_support::metric_in(&text, &format!("retort_trainer_{name}_seconds_sum")));
    assert!(0.0 < waits && waits < steps, "{waits} of {steps} seconds");

    // Eight batches are queued ahead of training, and no teacher is left to answer them.
    drop(teacher);
    test_support::eventually("the loss of the teacher", || {
        let lost = metric(trainer.metrics, "retort_trainer_teachers") == 0.0
            && metric(trainer.metrics, "retort_trainer_batches_in_flight") >= 8.0;
        lost.then_some(())
    });
    let run_id = run.run_id.clone();
    let cancel = CancelRunRequest { run_id };
    trainer.client.cancel_run(cancel).await.unwrap();
    assert_eq!(ended(&all(events).await).0, RunState::Cancelled);
    for (line, value) in [
        ("retort_trainer_runs{state=\"running\"}", 0.0),
        (
            "retort_trainer_runs_ended_total{outcome=\"cancelled\"}",
            1.0,
        ),
        ("retort_trainer_phase{kind=\"distill\"}", 0.0),
        ("retort_trainer_batches_in_flight", 0.0),
    ] {
        // The pool ends in the background, a little later.
        test_support::eventually(line, || {
            (metric(trainer.metrics, line) == value).then_some(())
        });
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_without_data_fails_and_names_the_file() {
    let mut trainer = Trainer::start().await;
    let images = trainer.folder.path().join("train-images-idx3-ubyte");
    let bytes = fs::read(&images).unwrap();
    fs::write(&images, &bytes[..bytes.len() - 1]).unwrap();
    let run = trainer.submit("a", trainer.config(1)).await.unwrap();
    let events = trainer.watch(&run).await;
    let (state, reason) = ended(&all(events).await);
    assert_eq!(state, RunState::Failed);
    assert!(reason.contains("train-images-idx3-ubyte"), "{reason}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_whose_model_is_withheld_does_not_count_as_failed() {
    let mut trainer = Trainer::start().await;
    let publish = format!(
        "[publish]\nendpoint = \"{}\"\nmodel = \"m\"\ngate = {{ max_latency_us = 0.001 }}",
        test_support::unused_address()
    );
    let config = trainer
        .config(1)
        .replace("export = { onnx = false }", "export = { onnx = true }");
    let config = format!("{config}\n{publish}");
    let run = trainer.submit("a", config).await.unwrap();
    let events = all(trainer.watch(&run).await).await;
    let (state, reason) = ended(&events);
    assert_eq!(state, RunState::Failed);
    assert!(
        reason.contains("publish.gate.max_latency_us = 0.001"),
        "{reason}"
    );
    for (outcome, runs) in [("withheld", 1.0), ("failed", 0.0), ("succeeded", 0.0)] {
        let line = format!("retort_trainer_runs_ended_total{{outcome=\"{outcome}\"}}");
        assert_eq!(metric(trainer.metrics, &line), runs, "{line}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_value_that_is_set_for_a_text_key_is_text() {
    let mut trainer = Trainer::start().await;
    let config_toml = trainer.config(1);
    let submit = |name: &str, overrides: &[&str]| SubmitRunRequest {
        name: name.to_owned(),
        config_toml: config_toml.clone(),
        overrides: overrides.iter().map(ToString::to_string).collect(),
    };
    let text = [
        "soft_targets.teacher=12e4",
        "soft_targets.view_seed=7",
        "seed = 5",
    ];
    let run = trainer.client.submit_run(submit("text", &text)).await;
    let run = run.unwrap().into_inner().run.unwrap();
    let (state, reason) = ended(&all(trainer.watch(&run).await).await);
    assert_eq!(state, RunState::Succeeded, "{reason}");
    let config = fs::read_to_string(Path::new(&run.folder).join("config.toml")).unwrap();
    for line in ["teacher = \"12e4\"", "view_seed = 7", "seed = 5"] {
        assert!(config.contains(line), "{line} is not in: {config}");
    }
    for wrong in ["sed=1", "seed=x", "seed", "phases[7].epochs=0"] {
        let refused = trainer.client.submit_run(submit("wrong", &[wrong])).await;
        let refused = refused.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument, "{refused}");
        let key = wrong.split_once('=').map_or(wrong, |(key, _)| key);
        assert!(refused.message().contains(key), "{refused}");
    }
}

#[test]
fn odd_variables_and_paths_are_taken_as_they_are_or_refused_by_name() {
    let odd = OsStr::from_bytes(b"a\xa3b");
    let folder = tempfile::tempdir().unwrap();
    let ready_file = folder.path().join("ready.json");
    let command = || {
        let mut command = Command::new(env!("CARGO_BIN_EXE_student-trainer"));
        command.current_dir(folder.path()).arg("serve");
        for setting in ["grpc.listen=127.0.0.1:0", "metrics.listen=127.0.0.1:0"] {
            command.args(["--set", setting]);
        }
        command
    };
    let mut numbered = command();
    numbered.arg("--ready-file").arg(&ready_file);
    numbered.env("RETORT_TRAINER__RUNS_FOLDER", "20240601");
    numbered.env("X", odd).env(odd, "x");
    Process::start(numbered).ready(&ready_file);
    assert!(folder.path().join("20240601").is_dir());
    fs::remove_file(&ready_file).unwrap();

    let mut flagged = command();
    flagged.arg("--ready-file").arg(&ready_file);
    flagged.arg("--runs-folder").arg(odd);
    Process::start(flagged).ready(&ready_file);
    assert!(folder.path().join(odd).is_dir());

    let refused = command().env("RETORT_TRAINER__RUNS_FOLDER", odd).output();
    let refused = refused.unwrap();
    let said = String::from_utf8(refused.stderr).unwrap();
    assert_eq!(refused.status.code(), Some(64), "{said}");
    assert!(
        said.contains("RETORT_TRAINER__RUNS_FOLDER: is not UTF-8"),
        "{said}"
    );
}

#[test]
fn it_continues_without_its_log_ends_on_signals_and_has_a_ready_file_while_it_serves() {
    let folder = tempfile::tempdir().unwrap();
    let runs = format!("runs_folder={}", folder.path().display());
    let service = || {
        let mut command = Command::new(env!("CARGO_BIN_EXE_student-trainer"));
        command.arg("serve");
        for setting in [
            "grpc.listen=127.0.0.1:0",
            "metrics.listen=127.0.0.1:0",
            &runs,
        ] {
            command.args(["--set", setting]);
        }
        command
    };
    test_support::process_life::check(&service, "grpc.listen");
}
