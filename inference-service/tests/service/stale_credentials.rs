//! Credential files that cannot be used for a while: the old credentials stay in use, the metrics show that, and
//! the files are read again until they can be used.

use std::{
    fs::{self, File},
    os::unix::fs::symlink,
    path::Path,
    time::{Duration, Instant},
};
use test_support::certificates::Keys;
use test_support::refusals::Guarded;

use server::security::{Scope, tokens_file::Tokens};
use tonic::{Code, Status};

use crate::{
    security::{Predictions, start},
    support::{Connection, PATIENCE, Response},
};

/// Damages of a credentials file. Permissions are not among them, because root ignores them.
type Damage = fn(&Path);

const DAMAGES: [Damage; 3] = [
    |file| fs::create_dir(file).expect("a folder is made"),
    |file| symlink("nowhere", file).expect("a link is made"),
    |file| fs::write(file, "[[tokens").expect("it is written"),
];

fn replace(file: &Path, damage: Damage) {
    fs::remove_file(file).expect("it is there");
    damage(file);
}

/// Removes a folder, which, unlike a file or a link, cannot be overwritten by a file.
fn clear(file: &Path) {
    if file.is_dir() {
        fs::remove_dir(file).expect("it is empty");
    }
}

/// Replaces a damaged file.
fn repair(file: &Path, bytes: &[u8]) {
    clear(file);
    common::atomic_file::write(file, bytes).expect("it is written");
}

/// Whether the response of `/metrics` reports `file` as stale.
fn is_stale(metrics: &Response, file: &Path) -> bool {
    let metrics = String::from_utf8_lossy(&metrics.body);
    let gauge = format!("retort_credentials_stale{{file=\"{}\"}} ", file.display());
    let value = metrics.lines().find_map(|line| line.strip_prefix(&gauge));
    match value {
        Some("0") => false,
        Some("1") => true,
        other => panic!("{other:?}: {metrics}"),
    }
}

/// Waits until `ask` returns a value.
async fn eventually<T>(service: &Predictions, mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(found) = ask().await {
            return found;
        }
        assert!(began.elapsed() < PATIENCE, "{}", service.log());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn revoked(called: Result<(), Option<Status>>) -> Option<Status> {
    called.err().flatten()
}

#[tokio::test]
async fn a_token_that_is_revoked_while_its_file_cannot_be_read_is_rejected_afterwards() {
    let keys = Keys::new();
    let names: Vec<_> = (0..DAMAGES.len())
        .map(|case| format!("web-{case}"))
        .collect();
    for name in &names {
        keys.token(name, Scope::Predict);
    }
    let prometheus = keys.token("prometheus", Scope::Metrics);
    let authorization = format!("Bearer {}", prometheus.reveal());
    let file = keys.tokens_file();
    let service = Predictions(start(&[keys.tokens_setting()]));
    let call = async |name: &str| service.call(&keys.plain_client(Some(name))).await;
    let stale = || {
        let headers = [("authorization", authorization.as_str())];
        let mut metrics = Connection::to(&service.0.address("metrics"));
        is_stale(&metrics.call("GET /metrics", &headers, b""), &file)
    };
    assert!(!stale());
    for (name, damage) in names.iter().zip(DAMAGES) {
        let before = fs::read(&file).expect("it is there");
        let written = fs::metadata(&file).and_then(|file| file.modified());
        replace(&file, damage);
        eventually(&service, async || stale().then_some(())).await;
        let called = call(name).await;
        assert!(called.is_ok(), "the old tokens are valid: {called:?}");

        // Only the token differs, not the time or the length.
        let elsewhere = keys.path("elsewhere.toml");
        fs::write(&elsewhere, &before).expect("it is written");
        Tokens::revoke(&elsewhere, name).expect("it is there");
        let mut after = fs::read(&elsewhere).expect("it is there");
        assert!(after.len() < before.len());
        after.resize(before.len(), b'\n');
        fs::write(&elsewhere, &after).expect("it is written");
        let written = written.expect("it has a time");
        let times = File::options().write(true).open(&elsewhere);
        let times = times.and_then(|file| file.set_modified(written));
        times.expect("its time is set");
        clear(&file);
        fs::rename(&elsewhere, &file).expect("it is moved");
        let refused = eventually(&service, async || revoked(call(name).await)).await;
        assert_eq!(refused.code(), Code::Unauthenticated, "{refused}");
        eventually(&service, async || (!stale()).then_some(())).await;
    }
    let log = service.log();
    assert!(
        log.contains("cannot be used; keeping the old value"),
        "{log}"
    );
    assert!(log.contains("tokens.toml"), "{log}");
}

#[tokio::test]
async fn a_certificate_is_replaced_after_its_key_could_not_be_read() {
    let keys = Keys::new();
    let service = Predictions(start(&keys.tls_settings()));
    let call = async |ca: &str| service.call(&keys.client(ca, None, None)).await;
    let files = ["server.pem", "server.key"].map(|name| keys.path(name));
    let stale = |ca: &str| {
        let tls = keys.client(ca, None, None).tls.expect("it speaks TLS");
        let mut metrics = Connection::over_tls(&service.0.address("metrics"), &tls);
        metrics.request("GET /metrics", &[], b"");
        let metrics = metrics.receive()?;
        Some(files.each_ref().map(|file| is_stale(&metrics, file)))
    };
    let are = async |ca: &str, expected: [bool; 2]| {
        eventually(&service, async || {
            (stale(ca) == Some(expected)).then_some(())
        })
        .await;
    };
    are("ca", [false, false]).await;
    let [certificate, key] = &files;
    let good = fs::read(key).expect("it is there");
    let [foreign, foreign_key] = ["foreign.pem", "foreign.key"].map(|name| {
        let file = keys.path(name);
        fs::read(file).expect("it is there")
    });
    let [folder, ..] = DAMAGES;
    replace(key, folder);
    are("ca", [false, true]).await;
    assert!(call("ca").await.is_ok(), "the old certificate is in use");
    repair(key, &good);
    are("ca", [false, false]).await;

    // A certificate cannot be used without its key.
    repair(certificate, &foreign);
    are("ca", [true, false]).await;
    assert!(call("ca").await.is_ok(), "the old certificate is in use");
    repair(key, &foreign_key);
    are("foreign-ca", [false, false]).await;
    eventually(&service, async || call("foreign-ca").await.ok()).await;
    assert!(call("ca").await.is_err(), "the old certificate is replaced");
}
