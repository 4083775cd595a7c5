use std::{
    future::pending,
    io::Write,
    process::{Command, Stdio},
};

use rustix::process::test_kill_process;

use super::*;

/// Processes that run shell scripts from their own folder.
fn processes(scripts: &[(&str, &str)]) -> (Processes, Deaths, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    for (name, script) in scripts {
        write_program(&folder.path().join(name), script);
    }
    let (mut processes, deaths) = Processes::new(folder.path().to_owned()).unwrap();
    processes.programs = folder.path().to_owned();
    (processes, deaths, folder)
}

/// Writes a program through another process. A child that another test forks while this process has
/// the file open for writing would keep it open, and starting the program would fail (ETXTBSY).
fn write_program(path: &Path, script: &str) {
    let mut shell = Command::new("sh")
        .args(["-c", r#"cat > "$0" && chmod 755 "$0""#])
        .arg(path)
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = shell.stdin.take().unwrap();
    write!(stdin, "#!/bin/sh\n{script}\n").unwrap();
    drop(stdin);
    assert!(shell.wait().unwrap().success());
}

/// A script that becomes ready (`$3` is its ready file) and runs forever.
const SERVES: &str = r#"echo '{"grpc": "127.0.0.1:7"}' > "$3.new"; mv "$3.new" "$3"
while :; do sleep 0.05; done"#;

fn is_alive(pid: u32) -> bool {
    let pid = Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    test_kill_process(pid).is_ok()
}

#[tokio::test]
async fn a_service_is_ready_with_its_addresses_and_ends_on_sigterm() {
    let (mut processes, _deaths, _folder) = processes(&[("ok", SERVES)]);
    let service = processes.serve("one", "ok", &[]).await.unwrap();
    assert_eq!(service.addresses["grpc"].port(), 7);
    assert!(is_alive(service.pid));
    processes.stop(pending()).await;
    assert!(!is_alive(service.pid));
}

#[tokio::test]
async fn one_that_ignores_sigterm_is_killed_in_a_hurry() {
    let stubborn = format!("trap '' TERM\n{SERVES}");
    let (mut processes, _deaths, _folder) = processes(&[("stubborn", &stubborn)]);
    let service = processes.serve("one", "stubborn", &[]).await.unwrap();
    processes.stop(async {}).await;
    assert!(!is_alive(service.pid));
}

#[tokio::test]
async fn dropping_everything_kills_the_children() {
    let (mut processes, _deaths, _folder) = processes(&[("ok", SERVES)]);
    let service = processes.serve("one", "ok", &[]).await.unwrap();
    let running = processes.running.pop().unwrap();
    running.supervisor.abort();
    assert!(running.supervisor.await.unwrap_err().is_cancelled());
    // The kernel needs some time between the signal and the end of the process.
    let ended = async {
        while is_alive(service.pid) {
            time::sleep(READY_POLL).await;
        }
    };
    time::timeout(Duration::from_secs(60), ended).await.unwrap();
}

#[tokio::test]
async fn a_death_names_the_log_and_shows_its_end() {
    let script = "seq 1 30; echo 'error: no such artifact' >&2; exit 3";
    let (mut processes, mut deaths, folder) = processes(&[("dies", script)]);
    let error = tokio::select! {
        _ = processes.serve("teacher-1", "dies", &[]) => panic!("it is ready"),
        error = deaths.next() => error.to_string(),
    };
    let log = folder.path().join("teacher-1.log").display().to_string();
    for part in [
        "teacher-1",
        "exit status: 3",
        &log,
        "30\n    error: no such artifact",
    ] {
        assert!(error.contains(part), "{part}: {error}");
    }
    assert!(!error.contains("    2\n"), "{error}");
}

#[tokio::test]
async fn a_program_that_should_end_is_waited_for() {
    let scripts = [("good", "exit 0"), ("bad", "echo broken; exit 1")];
    let (mut processes, _deaths, _folder) = processes(&scripts);
    processes.finish("a", "good", &[]).await.unwrap();
    let error = processes
        .finish("b", "bad", &[])
        .await
        .unwrap_err()
        .to_string();
    assert!(error.contains("broken"), "{error}");
    let error = processes
        .check(&["good", "missing"])
        .unwrap_err()
        .to_string();
    assert!(error.contains("`missing`"), "{error}");
}

#[tokio::test]
async fn detached_processes_keep_running() {
    let (mut processes, _deaths, _folder) = processes(&[("ok", SERVES)]);
    let service = processes.serve("one", "ok", &[]).await.unwrap();
    let left = processes.detach().await;
    assert_eq!(left, [service.pid]);
    drop(processes);
    assert!(is_alive(service.pid));
    let pid = Pid::from_raw(i32::try_from(service.pid).unwrap()).unwrap();
    kill_process(pid, UnixSignal::KILL).unwrap();
}
