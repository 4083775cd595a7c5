//! The run service keeps its queue when it is stopped or killed.

use std::{fs::File, path::Path, process::Command};
use test_support::{Process, eventually};

use proto::runs::v1::{
    ListRunsRequest, RunState, SubmitRunRequest, run_service_client::RunServiceClient,
};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tonic::{Status, transport::Channel};

use super::scene::{EPOCHS, PHASES, Place, RETORT, STEPS, Scene, TRAINER, fixed_address};

pub struct Service {
    pub process: Process,
    pub client: RunServiceClient<Channel>,
}

impl Service {
    async fn start(scene: &Scene, address: &str) -> Self {
        let runs = scene.path("runs").display().to_string();
        Self::of(Self::command(scene, &runs, address), address).await
    }

    /// A service at `address` that keeps its runs in `runs`.
    pub fn command(scene: &Scene, runs: &str, address: &str) -> Command {
        let mut command = Command::new(TRAINER);
        command.arg("serve");
        let runs = format!("runs_folder={runs}");
        let listen = format!("grpc.listen={address}");
        let allowed = toml::Value::from(vec![scene.path("").display().to_string()]);
        let allowed = format!("allowed_folders={allowed}");
        let metrics = "metrics.listen=127.0.0.1:0".to_owned();
        for setting in [runs, listen, allowed, metrics] {
            command.args(["--set", &setting]);
        }
        command
    }

    /// Starts the service of `command` and waits until it serves.
    pub async fn of(mut command: Command, address: &str) -> Self {
        let ready_file = tempfile::tempdir().unwrap();
        let ready_file = ready_file.path().join("ready.json");
        command.arg("--ready-file").arg(&ready_file);
        let mut process = Process::start(command);
        process.ready(&ready_file);
        let client = RunServiceClient::connect(format!("http://{address}"));
        let client = client.await.unwrap();
        Self { process, client }
    }

    async fn submit(&mut self, name: &str, config_toml: String) {
        self.try_submit(name, config_toml, &[]).await.unwrap();
    }

    /// Submits a run with `settings`; returns its id.
    pub async fn try_submit(
        &mut self,
        name: &str,
        config_toml: String,
        settings: &[&str],
    ) -> Result<String, Status> {
        let request = SubmitRunRequest {
            name: name.to_owned(),
            config_toml,
            overrides: settings.iter().map(|it| (*it).to_owned()).collect(),
        };
        let submitted = self.client.submit_run(request).await?;
        Ok(submitted.into_inner().run.unwrap().run_id)
    }

    pub async fn states(&mut self) -> Vec<(String, RunState)> {
        let listed = self.client.list_runs(ListRunsRequest {}).await.unwrap();
        let runs = listed.into_inner().runs.into_iter();
        runs.map(|run| (run.run_id.clone(), run.state())).collect()
    }
}

/// Starts `retort runs watch` with its output in `log`.
fn watch(address: &str, log: &Path) -> Process {
    let mut command = Command::new(&*RETORT);
    command.args(["runs", "watch", "a", "--trainer", address]);
    Process::start_with_output(command, File::create(log).unwrap().into())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_or_killed_service_continues_its_queue_and_stays_watched() {
    let scene = Scene::new();
    let teacher = scene.teacher();
    let undisturbed = scene.finish("undisturbed", &[&teacher], &[]);
    let config = scene.config().replace(
        "endpoints = []",
        &format!("endpoints = [\"{}\"]", teacher.grpc),
    );
    let mut random = ChaCha8Rng::seed_from_u64(2);

    let address = fixed_address();
    let mut service = Service::start(&scene, &address).await;
    for name in ["a", "b"] {
        service.submit(name, config.clone()).await;
    }
    let log = scene.path("watch.log");
    let mut watcher = watch(&address, &log);
    for signal in ["TERM", "KILL"] {
        let mut within = 0;
        for phase in 0..PHASES.len() {
            let step = random.random_range(1..=EPOCHS * STEPS / 2);
            // The second interruption of a phase is at a later step.
            let step = step + u64::from(signal == "KILL") * EPOCHS * STEPS / 4;
            let aim = Place { phase, step };
            let run = if signal == "TERM" { "runs/a" } else { "runs/b" };
            scene.wait_for(run, aim, &mut service.process);
            service.process.signal(signal);
            let status = service.process.wait();
            assert_eq!(status.success(), signal == "TERM", "{status}");
            let hit = scene.ended_within(run, phase);
            within += usize::from(hit);
            eprintln!("{signal} of the service with {run} at {aim:?}, within the phase: {hit}");
            service = Service::start(&scene, &address).await;
            let known = service.states().await;
            let known: Vec<_> = known.iter().map(|(id, _)| &**id).collect();
            assert_eq!(known, ["a", "b"]);
        }
        // On a loaded machine, a phase may end before the signal arrives.
        assert!(within >= 1, "{signal}: {within} of 3 within their phases");
    }
    for name in ["a", "b"] {
        eventually(name, || {
            let manifest = scene.path(&format!("runs/{name}/manifest.json"));
            manifest.exists().then_some(())
        });
        assert_eq!(scene.result(&format!("runs/{name}")), undisturbed);
    }
    loop {
        let states = service.states().await;
        if states
            .iter()
            .all(|(_, state)| *state == RunState::Succeeded)
        {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }

    // The watcher printed every epoch once, despite the restarts.
    assert!(watcher.wait().success(), "{}", watcher.stderr());
    let said = std::fs::read_to_string(&log).unwrap();
    for phase in ["supervised", "distill", "fine-tune"] {
        for epoch in 1..=EPOCHS {
            let line = format!("{phase}: epoch {epoch}/{EPOCHS}");
            assert_eq!(said.matches(&line).count(), 1, "{line} in: {said}");
        }
    }
    assert!(said.contains("run a succeeded"), "{said}");

    // A restarted service also reports the events of runs that ended before.
    service.process.signal("TERM");
    assert!(service.process.wait().success());
    let mut service = Service::start(&scene, &address).await;
    let late = scene.path("late.log");
    let mut watcher = watch(&address, &late);
    assert!(watcher.wait().success(), "{}", watcher.stderr());
    let said = std::fs::read_to_string(&late).unwrap();
    assert!(said.contains("distill: epoch 2/2"), "{said}");
    let expected = ["a", "b"].map(|name| (name.to_owned(), RunState::Succeeded));
    assert_eq!(service.states().await, expected);
}
