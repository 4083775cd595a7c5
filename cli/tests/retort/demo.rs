//! `retort demo --quick` with real processes and real data.

use std::{
    fs,
    io::{BufRead, BufReader, Lines, Read},
    path::{Path, PathBuf},
    process::{Child, ChildStdout, Command, ExitStatus, Output, Stdio},
    sync::{Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// Time limit for the end of a process that was asked to stop.
const SOON: Duration = Duration::from_secs(60);

/// Runs one demo at a time: demos that train at the same time compete for cores and take more than twice as
/// long.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

fn turn() -> MutexGuard<'static, ()> {
    // Ignores the failure of another test.
    ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner)
}

fn data() -> PathBuf {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../.deps/fashion-mnist");
    assert!(
        folder.is_dir(),
        "no {}: run scripts/setup",
        folder.display()
    );
    folder
}

fn demo(output: &Path, arguments: &[&str]) -> Command {
    let retort = Path::new(env!("CARGO_BIN_EXE_retort"));
    for service in ["student-trainer", "teacher-service", "inference-service"] {
        let program = retort.with_file_name(service);
        let missing = "does not exist: run `cargo build --release --workspace` first";
        assert!(program.is_file(), "{} {missing}", program.display());
    }
    // Default signal handling, even if the tests' own process ignores signals.
    let mut command = Command::new("env");
    command.args(["HUP", "INT", "QUIT"].map(|name| format!("--default-signal={name}")));
    command
        .arg(retort)
        .args(["demo", "--quick", "--output"])
        .arg(output);
    command.arg("--data").arg(data()).args(arguments);
    command
}

fn retort(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_retort"));
    command.args(arguments).output().unwrap()
}

/// Returns the processes, except the demo itself, with `folder` on their command line.
fn children(folder: &Path) -> Vec<(u32, String)> {
    let folder = folder.canonicalize().unwrap();
    let folder = folder.to_str().unwrap();
    let processes = fs::read_dir("/proc").unwrap().filter_map(Result::ok);
    processes
        .filter_map(|process| {
            let pid = process.file_name().to_str()?.parse().ok()?;
            let command = fs::read(process.path().join("cmdline")).ok()?;
            Some((pid, String::from_utf8_lossy(&command).replace('\0', " ")))
        })
        .filter(|(_, command)| command.contains(folder) && !command.contains(" demo "))
        .collect()
}

fn text(output: &Output) -> String {
    let both = [&output.stdout[..], &output.stderr[..]].concat();
    String::from_utf8_lossy(&both).into_owned()
}

fn summary(folder: &Path) -> Value {
    serde_json::from_slice(&fs::read(folder.join("summary.json")).unwrap()).unwrap()
}

fn number(summary: &Value, key: &str) -> f64 {
    let pointer = format!("/{}", key.replace('.', "/"));
    let value = summary.pointer(&pointer).and_then(Value::as_f64);
    value.unwrap_or_else(|| panic!("{key} in {summary:#}"))
}

fn signal(pid: u32, signal: Signal) {
    let pid = Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    kill_process(pid, signal).unwrap();
}

fn wait(child: &mut Child) -> ExitStatus {
    let deadline = Instant::now() + SOON;
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status;
        }
        assert!(Instant::now() < deadline, "still running after {SOON:?}");
        thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn the_demo_does_everything_and_leaves_figures_a_page_and_no_process() {
    let _turn = turn();
    let folder = tempfile::tempdir().unwrap();
    let output = demo(folder.path(), &["--seed", "3"]).output().unwrap();
    assert!(output.status.success(), "{}", text(&output));
    assert_eq!(children(folder.path()), []);

    let summary = summary(folder.path());
    assert_eq!(number(&summary, "seed"), 3.0);
    assert_eq!(number(&summary, "served.inference_count"), 1000.0);
    assert_eq!(number(&summary, "test_samples"), 1000.0);
    for model in [
        "teacher",
        "baseline",
        "distilled",
        "student",
        "exported",
        "served",
    ] {
        // Random guesses among ten classes give 0.1.
        let accuracy = number(&summary, &format!("{model}.accuracy"));
        assert!((0.3..1.0).contains(&accuracy), "{model}: {accuracy}");
    }
    for same in ["accuracy", "agreement"] {
        let [exported, served] =
            ["exported", "served"].map(|model| number(&summary, &format!("{model}.{same}")));
        assert!((exported - served).abs() < 0.002, "{exported} {served}");
    }
    let parameters = number(&summary, "student.parameters");
    assert!((1.0..=40_000.0).contains(&parameters), "{parameters}");
    assert_eq!(number(&summary, "teacher.agreement"), 1.0);
    let steps = [
        "start", "teacher", "baseline", "student", "evaluate", "serve",
    ];
    let sum: f64 = steps
        .iter()
        .map(|step| number(&summary, &format!("seconds.{step}")))
        .sum();
    let total = number(&summary, "seconds.total");
    assert!(sum <= total && sum > 0.9 * total, "{sum} of {total}");

    let page = fs::read_to_string(folder.path().join("report.html")).unwrap();
    for outside in ["http:", "https:", "<link", "url(", "@import"] {
        assert!(!page.contains(outside), "{outside}");
    }
    // Two charts, of loss and accuracy, for each of five phases; accuracy by parameters, file size and latency; the
    // reliability diagram.
    assert_eq!(page.matches("<svg").count(), 14);
    let pictures = page.matches("src=\"data:image/png;base64,").count();
    assert_eq!(pictures, page.matches("src=").count());
    assert!((1..=24).contains(&pictures), "{pictures}");
    let said = text(&output);
    for words in [
        "student, served (gRPC)",
        "image 0: Sneaker",
        "All services are stopped",
    ] {
        assert!(said.contains(words), "{words}: {said}");
    }
}

#[test]
fn kept_services_answer_and_hold_their_folder_until_they_are_stopped() {
    let _turn = turn();
    let folder = tempfile::tempdir().unwrap();
    let output = demo(folder.path(), &["--keep"]).output().unwrap();
    let said = text(&output);
    assert!(output.status.success(), "{said}");
    let services = fs::read(folder.path().join("services.json")).unwrap();
    let services: Vec<Value> = serde_json::from_slice(&services).unwrap();
    let pids: Vec<u32> = services
        .iter()
        .map(|service| u32::try_from(service["pid"].as_u64().unwrap()).unwrap())
        .collect();
    let kept = Kept(pids);
    assert_eq!(children(folder.path()).len(), 4, "{said}");
    let stop = kept
        .0
        .iter()
        .map(u32::to_string)
        .collect::<Vec<_>>()
        .join(" ");
    assert!(said.contains(&format!("kill {stop}")), "{said}");

    let inference = services
        .iter()
        .find(|service| service["name"] == "inference")
        .unwrap();
    let address = |port: &str| inference["addresses"][port].as_str().unwrap();
    let (url, admin, data) = (address("grpc"), address("admin"), data());
    let predict = ["predict", "--url", url, "--model", "fashion-mnist"];
    let data = ["--idx", data.to_str().unwrap(), "--index", "1,2"];
    let output = retort(&[&predict[..], &data[..]].concat());
    let said = text(&output);
    assert!(
        output.status.success() && said.contains("image 2: Trouser"),
        "{said}"
    );

    let output = retort(&["models", "list", "--admin", admin]);
    let said = text(&output);
    assert!(
        output.status.success() && said.contains("fashion-mnist"),
        "{said}"
    );
    let output = retort(&["models", "delete", "fashion-mnist", "1", "--admin", admin]);
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    let output = retort(&["models", "rollback", "fashion-mnist", "--admin", admin]);
    assert_eq!(output.status.code(), Some(64), "{}", text(&output));

    let output = demo(folder.path(), &[]).output().unwrap();
    assert_eq!(output.status.code(), Some(64), "{}", text(&output));
    assert!(folder.path().join("summary.json").is_file());

    drop(kept);
    let deadline = Instant::now() + SOON;
    while !children(folder.path()).is_empty() {
        assert!(Instant::now() < deadline, "{:?}", children(folder.path()));
        thread::sleep(Duration::from_millis(10));
    }
}

/// Services that a demo left running. Dropping this stops them with SIGTERM, as the demo advises.
struct Kept(Vec<u32>);

impl Drop for Kept {
    fn drop(&mut self) {
        for pid in &self.0 {
            signal(*pid, Signal::TERM);
        }
    }
}

/// A demo that has started to train; trainer and inference service are running.
struct Training {
    child: Child,
    output: Lines<BufReader<ChildStdout>>,
}

impl Training {
    fn start(folder: &Path) -> Self {
        let mut command = demo(folder, &[]);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut output = BufReader::new(child.stdout.take().unwrap()).lines();
        let begun = output.find(|line| line.as_ref().unwrap().contains("supervised: 2 epochs"));
        assert!(begun.is_some(), "the demo ended before it trained");
        assert_eq!(children(folder).len(), 2);
        Self { child, output }
    }

    /// Waits for the end of the demo. Returns its exit code and the rest of its output.
    fn end(mut self) -> (Option<i32>, String) {
        let mut said: String = self.output.map(|line| line.unwrap() + "\n").collect();
        let mut errors = self.child.stderr.take().unwrap();
        errors.read_to_string(&mut said).unwrap();
        (wait(&mut self.child).code(), said)
    }
}

#[test]
fn ctrl_c_ends_every_child_and_says_where_things_are() {
    let _turn = turn();
    let folder = tempfile::tempdir().unwrap();
    let training = Training::start(folder.path());
    signal(training.child.id(), Signal::INT);
    let (code, said) = training.end();
    assert_eq!(code, Some(130), "{said}");
    assert_eq!(children(folder.path()), []);
    let logs = folder.path().canonicalize().unwrap().join("logs");
    for words in [
        "while training the teacher",
        logs.to_str().unwrap(),
        "Ctrl-C",
    ] {
        assert!(said.contains(words), "{words}: {said}");
    }
    assert!(!folder.path().join("summary.json").exists());
}

#[test]
fn the_demo_continues_without_a_reader_and_ends_every_child_on_sighup() {
    let _turn = turn();
    let folder = tempfile::tempdir().unwrap();
    let Training { mut child, output } = Training::start(folder.path());
    drop((output, child.stderr.take()));
    let deadline = Instant::now() + 5 * SOON;
    while !folder.path().join("baseline").exists() {
        assert!(Instant::now() < deadline, "the second run does not start");
        assert_eq!(child.try_wait().unwrap(), None, "the demo ended");
        thread::sleep(Duration::from_millis(10));
    }
    signal(child.id(), Signal::HUP);
    assert_eq!(wait(&mut child).code(), Some(129));
    assert_eq!(children(folder.path()), []);
}

#[test]
fn a_child_that_dies_is_named_with_its_log() {
    let _turn = turn();
    let folder = tempfile::tempdir().unwrap();
    let training = Training::start(folder.path());
    let children_now = children(folder.path());
    let trainer = children_now
        .iter()
        .find(|(_, command)| command.contains("student-trainer"));
    signal(trainer.unwrap().0, Signal::KILL);
    let (code, said) = training.end();
    assert_eq!(code, Some(1), "{said}");
    assert_eq!(children(folder.path()), []);
    for words in ["trainer has ended", "SIGKILL", "trainer.log", "run begins"] {
        assert!(said.contains(words), "{words}: {said}");
    }
}

#[test]
fn wrong_usage_exits_with_64_and_touches_nothing() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("thesis.tex"), "x").unwrap();
    let output = demo(folder.path(), &[]).output().unwrap();
    assert_eq!(output.status.code(), Some(64), "{}", text(&output));
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    for arguments in [&["demo", "--fast"][..], &["models"], &["run"]] {
        assert_eq!(retort(arguments).status.code(), Some(64), "{arguments:?}");
    }
    let output = retort(&["runs", "list", "--trainer", "127.0.0.1:1"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output).contains("127.0.0.1:1"), "{}", text(&output));
}
