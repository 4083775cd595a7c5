//! Start, stop, and errors at the start.

use std::{
    fs,
    net::TcpListener,
    os::unix::process::ExitStatusExt,
    path::{Path, PathBuf},
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use crate::support::{
    Artifact, BINARY, FREE_PORTS, MODEL, Service, ServiceOptions, infer_request, publish,
    run_to_the_end, serve_to_the_end, wait_until,
};
use tonic::{Code, Status};

#[tokio::test]
async fn health_checks_succeed_until_the_service_stops() {
    // On its own host address, so that no other test's service gets the port in the meantime.
    let options = ServiceOptions {
        set: &["grpc.listen=127.0.0.2:0"],
        ..ServiceOptions::default()
    };
    let service = Service::start(&options);
    for port in ["grpc", "admin"] {
        let address = service.address(port);
        let output = run_to_the_end(&["healthcheck", &address]);
        assert_eq!(output.status.code(), Some(0), "{}", output.stderr);
        assert!(output.stdout.contains("is serving"), "{}", output.stdout);
    }
    let address = service.address("grpc");
    drop(service);
    let output = run_to_the_end(&["healthcheck", &address]);
    assert_eq!(output.status.code(), Some(1));
    assert!(output.stderr.contains(&address), "{}", output.stderr);
}

#[tokio::test]
async fn requests_in_flight_are_answered_before_the_end() {
    const CALLS: usize = 16;
    let options = ServiceOptions {
        // Requests wait for a batch that does not fill.
        set: &["batching.max_queue_delay_microseconds=1000000"],
        ..ServiceOptions::default()
    };
    let service = Service::start(&options);
    publish(&service, &Artifact::new(1)).await;
    let client = service.inference().await;
    let pending =
        format!("nv_inference_pending_request_count{{model=\"{MODEL}\",version=\"1\"}} {CALLS}");
    let all_wait = || service.metrics().lines().any(|line| line == pending);
    let calls = loop {
        let calls = (0..CALLS).map(|_| {
            let mut client = client.clone();
            tokio::spawn(async move { client.model_infer(infer_request(1).0).await })
        });
        let calls: Vec<_> = calls.collect();
        let mut waiting = all_wait();
        while !waiting && !calls.iter().all(|call| call.is_finished()) {
            tokio::task::yield_now().await;
            waiting = all_wait();
        }
        if waiting {
            break calls;
        }
        // The test was delayed for longer than the requests wait: repeat.
        for call in calls {
            call.await.expect("the call ends").expect("it is answered");
        }
    };
    service.terminate();
    for call in calls {
        let response = call.await.expect("the call ends").expect("it is answered");
        assert_eq!(response.get_ref().model_version, "1");
    }
    assert!(service.wait().success());
}

#[tokio::test]
async fn under_load_sigterm_ends_the_service() {
    const CALLERS: usize = 16;
    let service = Service::start(&ServiceOptions::default());
    publish(&service, &Artifact::new(1)).await;
    let answered = Arc::new(AtomicU64::new(0));
    let client = service.inference().await;
    let callers = (0..CALLERS).map(|_| {
        let (mut client, answered) = (client.clone(), Arc::clone(&answered));
        tokio::spawn(async move {
            loop {
                match client.model_infer(infer_request(4).0).await {
                    Ok(_) => answered.fetch_add(1, Ordering::Relaxed),
                    Err(status) => return status,
                };
            }
        })
    });
    let callers: Vec<_> = callers.collect();
    while answered.load(Ordering::Relaxed) < 200 {
        assert!(!callers.iter().any(|caller| caller.is_finished()));
        tokio::task::yield_now().await;
    }
    service.terminate();
    for caller in callers {
        let status = caller.await.expect("the caller ends by itself");
        assert!(was_not_taken(&status), "{status:?}");
    }
    assert!(service.wait().success());
}

/// Whether the request was rejected before the service began it, by the service or by the client's connection.
fn was_not_taken(status: &Status) -> bool {
    match status.code() {
        // tonic's client reports Cancelled if the connection closes while the request waits for it.
        Code::Unavailable | Code::Cancelled => true,
        // The request was sent after the client acknowledged the shutdown (RFC 9113, section 6.8): the last GOAWAY
        // excludes it, without an error.
        Code::Internal => server::grpc::reason(status).contains("not a result of an error"),
        _ => false,
    }
}

#[tokio::test]
async fn health_checks_report_not_serving_while_the_service_drains() {
    let options = ServiceOptions {
        set: &["shutdown.grace_seconds=30"],
        ..ServiceOptions::default()
    };
    let service = Service::start(&options);
    publish(&service, &Artifact::new(1)).await;
    service.terminate();
    let address = service.address("grpc");
    wait_until(|| {
        let output = run_to_the_end(&["healthcheck", &address]);
        output.status.code() == Some(1) && output.stderr.contains("NOT_SERVING")
    });
    let ready = proto::inference::ServerReadyRequest {};
    let response = service
        .inference()
        .await
        .server_ready(ready)
        .await
        .expect("it answers");
    assert!(!response.into_inner().ready);
    // The grace period, in which load balancers notice.
    assert_eq!(service.serving_version().await, "1");
}

#[test]
fn all_errors_of_a_configuration_are_reported_together() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("bad.toml");
    let text = "[batching]\nmax_batch_size = 0\nmax_queue = 3\n[grpc]\nlisten = \"nowhere\"\n\
                [admin]\nlisten = \"0.0.0.0:8003\"\n";
    std::fs::write(&file, text).unwrap();
    let file = file.to_str().unwrap();
    let output = run_to_the_end(&["serve", "--config", file, "--set", "runtime.threads=0"]);
    assert_eq!(output.status.code(), Some(64), "{}", output.stderr);
    for part in [
        file,
        "batching.max_batch_size = 0: must be from 1 to 4096",
        "max_queue",
        "grpc.listen = \"nowhere\"",
        "admin.listen = 0.0.0.0:8003",
        "admin.access = \"anyone_who_reaches_the_port\"",
        "runtime.threads = 0",
    ] {
        assert!(output.stderr.contains(part), "{part}: {}", output.stderr);
    }
}

#[test]
fn the_error_of_a_taken_port_names_its_key() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().join("models");
    for key in ["grpc", "http", "admin", "metrics"] {
        let taken = format!("--set={key}.listen={address}");
        let output = serve_to_the_end(&store, &[&taken]);
        assert_eq!(output.status.code(), Some(1));
        let expected = format!("cannot listen on {address} ({key}.listen)");
        assert!(output.stderr.contains(&expected), "{}", output.stderr);
        assert!(
            !store.exists(),
            "nothing is written before the ports are taken"
        );
    }
}

#[test]
fn the_error_of_an_unusable_store_names_it() {
    let output = serve_to_the_end(Path::new("/proc/no/models"), &[]);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        output.stderr.contains("/proc/no/models"),
        "{}",
        output.stderr
    );
}

/// Official builds of ONNX Runtime have a database below HOME for what they report to their vendor.
#[tokio::test]
async fn nothing_is_reported_to_the_vendor_of_onnx_runtime() {
    let service = Service::start(&ServiceOptions::default());
    publish(&service, &Artifact::new(1)).await;
    let answer = service.infer(infer_request(1).0).await;
    answer.expect("it is answered");
    let process = PathBuf::from(format!("/proc/{}", service.pid()));
    let environment = fs::read(process.join("environ")).expect("it runs");
    let mut variables = environment.split(|byte| *byte == 0);
    assert!(variables.any(|variable| variable == b"ORT_DISABLE_TELEMETRY=1"));
    assert!(!service.home().exists());
}

#[test]
fn another_signal_ends_a_slow_stop_at_once() {
    let mut service = Service::start(&ServiceOptions {
        set: &["shutdown.grace_seconds=3600"],
        ..ServiceOptions::default()
    });
    wait_until(|| {
        service.terminate();
        !service.is_running()
    });
    let log = service.log();
    assert!(log.contains("ending at once"), "{log}");
    assert_eq!(service.wait().signal(), Some(9), "{log}");
}

#[test]
fn the_process_survives_its_log_ends_on_signals_and_has_a_ready_file_while_it_serves() {
    let folder = tempfile::tempdir().expect("a folder");
    let service = || {
        let mut command = Command::new(BINARY);
        command.arg("serve").arg("--store").arg(folder.path());
        command.args(FREE_PORTS);
        command
    };
    test_support::process_life::check(&service, "http.listen");
}
