//! Traces of runs over all services, received by a collector.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    path::Path,
    process::Command,
    time::Duration,
};

use proto::runs::v1::{
    CancelRunRequest, GetRunRequest, Run, RunState, SubmitRunRequest,
    run_service_client::RunServiceClient,
};
use test_support::{
    CollectedSpan, Process, Teacher, TraceCollector, built_beside, eventually,
    run_toml::{PhaseToml, RunToml},
    write_idx,
};
use tonic::{Request, transport::Channel};

use crate::distillation::{Scene, Size, TEACHER, TRAINER};

const SUBMIT: &str = "retort.runs.v1.RunService/SubmitRun";

/// Starts `program serve` on free ports with these variables; returns its addresses too.
fn serve(
    program: &Path,
    ready_file: &Path,
    settings: &[String],
    environment: &[(&str, String)],
) -> (Process, BTreeMap<String, SocketAddr>) {
    let mut command = Command::new(program);
    command.arg("serve").arg("--ready-file").arg(ready_file);
    command.envs(environment.iter().cloned());
    for setting in settings {
        command.args(["--set", setting]);
    }
    let mut process = Process::start(command);
    let addresses = process.ready(ready_file);
    (process, addresses)
}

fn trainer(folder: &Path, environment: &[(&str, String)]) -> (Process, SocketAddr) {
    let settings = [
        "grpc.listen=127.0.0.1:0".to_owned(),
        "metrics.listen=127.0.0.1:0".to_owned(),
        format!("runs_folder={}", folder.join("runs").display()),
        format!("allowed_folders=[{:?}]", folder.display().to_string()),
    ];
    let ready_file = folder.join("trainer.json");
    let (process, addresses) = serve(TRAINER.as_ref(), &ready_file, &settings, environment);
    (process, addresses["grpc"])
}

#[test]
fn a_run_is_one_trace_over_all_services() {
    let collector = TraceCollector::start();
    let environment = collector.environment();
    let scene = Scene::new(Size {
        steps: 4,
        epochs: 2,
        widths: [4, 8],
    });
    let folder = scene.path("");
    let teacher = Teacher::start_in(&TEACHER, &scene.artifact(), &environment);
    let settings = ["grpc", "http", "admin", "metrics"]
        .map(|port| format!("{port}.listen=127.0.0.1:0"))
        .into_iter()
        .chain([format!("store={}", folder.join("models").display())]);
    let (_inference, ports) = serve(
        &built_beside(TRAINER, "inference-service"),
        &folder.join("inference.json"),
        &settings.collect::<Vec<_>>(),
        &environment,
    );
    let (_trainer, address) = trainer(&folder, &environment);

    let mut retort = Command::new(built_beside(TRAINER, "retort"));
    retort.arg("run").arg(folder.join("run.toml"));
    retort.args(["--trainer", &address.to_string()]);
    for setting in [
        format!("teacher.endpoints=[\"{}\"]", teacher.grpc),
        format!("publish.endpoint={}", ports["admin"]),
        "publish.model=student".to_owned(),
    ] {
        retort.args(["--set", &setting]);
    }
    retort.envs(environment);
    let mut retort = Process::start(retort);
    let status = retort.wait_within(Duration::from_secs(600));
    assert!(status.success(), "{}", retort.stderr());

    let root = collector.span("retort run", |span| span.parent.is_empty());
    let submitted = collector.part(&root, SUBMIT);
    let run = collector.part(&submitted, "run");
    let phase = collector.part(&run, "phase");
    let epoch = collector.part(&phase, "epoch");
    let stream = "retort.teacher.v1.TeacherService/StreamSoftTargets";
    let stream = collector.part(&run, stream);
    let export = collector.part(&run, "export");
    let publish = collector.part(&run, "publish");
    let published = collector.part(&publish, "retort.publish.v1.PublisherService/Publish");
    let loaded = collector.part(&published, "load model");
    let services = [
        &root, &submitted, &run, &phase, &epoch, &stream, &export, &published, &loaded,
    ];
    let services = services.map(|span| span.service.as_str());
    assert_eq!(
        services,
        [
            "retort",
            "student-trainer",
            "student-trainer",
            "student-trainer",
            "student-trainer",
            "teacher-service",
            "student-trainer",
            "inference-service",
            "inference-service",
        ]
    );
    assert_eq!(phase.attributes["retort.phase.kind"], "distill");
    let epochs = |spans: Vec<CollectedSpan>| {
        let epochs = spans.into_iter().filter(|span| span.name == "epoch");
        epochs.count()
    };
    assert_eq!(epochs(collector.spans()), 2);
    let traces: BTreeSet<_> = collector
        .spans()
        .into_iter()
        .map(|span| span.trace)
        .collect();
    assert_eq!(traces.len(), 1, "{traces:?}");
}

#[test]
fn the_spans_of_a_phase_that_diverges_are_marked_as_failed() {
    let collector = TraceCollector::start();
    let folder = tempfile::tempdir().unwrap();
    let config = run_of(
        folder.path(),
        PhaseToml {
            schedule: r#"{ kind = "constant", learning_rate = 1e30 }"#,
            ..PhaseToml::default()
        },
    );
    let file = folder.path().join("run.toml");
    std::fs::write(&file, config).unwrap();
    let mut command = Command::new(TRAINER);
    command.arg("run").arg(&file).arg("--output");
    command.arg(folder.path().join("run"));
    command.envs(collector.environment());
    let mut trainer = Process::start(command);
    let status = trainer.wait_within(Duration::from_secs(600));
    assert!(!status.success(), "{}", trainer.stderr());
    let run = collector.span("run", |span| span.parent.is_empty());
    let phase = collector.part(&run, "phase");
    let epoch = collector.part(&phase, "epoch");
    for span in [run, phase, epoch] {
        assert!(span.failed, "{span:?}");
    }
}

/// Writes a data set to `folder`; returns the configuration of a run that does not end.
fn endless_run(folder: &Path) -> String {
    run_of(
        folder,
        PhaseToml {
            epochs: 1_000_000,
            batch_size: 8,
            ..PhaseToml::default()
        },
    )
}

/// Writes a data set to `folder`; returns the configuration of a run of one phase.
fn run_of(folder: &Path, phase: PhaseToml<'_>) -> String {
    write_idx(folder, 2048, [8, 8]);
    let data = format!("[data]\npath = {:?}", folder.display().to_string());
    let config = RunToml {
        keys: "threads = 1\nexport = { onnx = false }",
        network: "input = [1, 8, 8]\nclasses = 10\npreset = \"mlp\"\nwidths = [4]",
        phases: &[phase],
        tables: &data,
    };
    config.to_string()
}

async fn connect(address: SocketAddr) -> RunServiceClient<Channel> {
    let client = RunServiceClient::connect(format!("http://{address}")).await;
    client.unwrap()
}

async fn state(client: &mut RunServiceClient<Channel>, run: &Run) -> RunState {
    let run_id = run.run_id.clone();
    let answer = client.get_run(GetRunRequest { run_id }).await.unwrap();
    answer.into_inner().run.unwrap().state()
}

async fn until(client: &mut RunServiceClient<Channel>, run: &Run, wanted: RunState) {
    while state(client, run).await != wanted {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_stays_in_its_trace_when_the_trainer_restarts() {
    const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
    let collector = TraceCollector::start();
    let folder = tempfile::tempdir().unwrap();
    let config_toml = endless_run(folder.path());
    let (mut first, address) = trainer(folder.path(), &collector.environment());
    let mut client = connect(address).await;
    let mut request = Request::new(SubmitRunRequest {
        name: "traced".to_owned(),
        config_toml,
        ..Default::default()
    });
    let parent = format!("00-{TRACE}-b7ad6b7169203331-01");
    request
        .metadata_mut()
        .insert("traceparent", parent.parse().unwrap());
    let submitted = client.submit_run(request).await.unwrap();
    let run = submitted.into_inner().run.unwrap();
    let submit = collector.span(SUBMIT, |span| span.trace == TRACE);
    assert_eq!(submit.parent, "b7ad6b7169203331");
    until(&mut client, &run, RunState::Running).await;
    first.signal("TERM");
    assert!(first.wait().success());
    let stopped = collector.part(&submit, "run");

    let (_second, address) = trainer(folder.path(), &collector.environment());
    let mut client = connect(address).await;
    until(&mut client, &run, RunState::Running).await;
    let run_id = run.run_id.clone();
    client
        .cancel_run(CancelRunRequest { run_id })
        .await
        .unwrap();
    let resumed = eventually("the span of the resumed run", || {
        let mut spans = collector.spans().into_iter();
        spans.find(|span| span.name == "run" && span.id != stopped.id)
    });
    assert_eq!((resumed.trace.as_str(), resumed.parent), (TRACE, submit.id));
    assert_eq!(resumed.attributes["retort.run.id"], run.run_id);
}
