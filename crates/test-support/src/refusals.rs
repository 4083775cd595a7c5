//! Checks that a service rejects wrong credentials, with a reason, with one line in the log, and
//! without the token in it.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use server::security::{Scope, client::Credentials};
use tonic::Code;
use tonic_types::StatusExt;

use crate::certificates::Keys;

const PATIENCE: Duration = Duration::from_secs(30);

/// A service whose port requires a certificate and a token.
pub trait Guarded {
    /// The scope that [`call`](Self::call) requires.
    const SCOPE: Scope;

    /// Returns the log so far.
    fn log(&self) -> String;

    /// Makes one call, which succeeds with sufficient credentials.
    ///
    /// # Errors
    /// The status of the answer, or `None` if no connection was made.
    async fn call(&self, credentials: &Credentials) -> Result<(), Option<tonic::Status>>;
}

/// One call with wrong credentials.
struct Case {
    what: &'static str,
    credentials: Credentials,
    /// Expected code and reason of the answer; `None` if the connection is rejected.
    answer: Option<(Code, &'static str)>,
    /// Text that only this case's line of the log contains.
    logged: &'static str,
}

/// Credentials that a service with these [`settings`] accepts.
pub fn good(keys: &Keys) -> Credentials {
    keys.client("ca", Some("client"), Some("good"))
}

/// Creates the tokens and returns the `--set` arguments of a service with mutual TLS and tokens.
pub fn settings(keys: &Keys, scope: Scope) -> Vec<String> {
    let other = if scope == Scope::Metrics {
        Scope::Runs
    } else {
        Scope::Metrics
    };
    keys.token("good", scope);
    keys.token("other-scope", other);
    keys.unknown_token("unknown");
    let mut settings = keys.mutual_tls_settings();
    settings.push(keys.tokens_setting());
    settings
}

/// Calls `service`, started with [`settings`], with every kind of wrong credentials.
pub async fn refuses_all_but_good_callers<G: Guarded>(service: &G, keys: &Keys) {
    expect_good_call(service, keys).await;
    let client = |certificate, token| keys.client("ca", certificate, token);
    let certificate = Some("client");
    for case in [
        Case {
            what: "no token",
            credentials: client(certificate, None),
            answer: Some((Code::Unauthenticated, "TOKEN_MISSING")),
            logged: "TOKEN_MISSING",
        },
        Case {
            what: "a wrong token",
            credentials: client(certificate, Some("unknown")),
            answer: Some((Code::Unauthenticated, "TOKEN_UNKNOWN")),
            logged: "TOKEN_UNKNOWN",
        },
        Case {
            what: "a token of another scope",
            credentials: client(certificate, Some("other-scope")),
            answer: Some((Code::PermissionDenied, "SCOPE_MISSING")),
            logged: "token=\"other-scope\"",
        },
        Case {
            what: "an expired certificate",
            credentials: client(Some("expired"), Some("good")),
            answer: None,
            logged: "has expired",
        },
        Case {
            what: "a certificate of a foreign authority",
            credentials: client(Some("foreign"), Some("good")),
            answer: None,
            logged: "not from a trusted authority",
        },
        Case {
            what: "no certificate",
            credentials: client(None, Some("good")),
            answer: None,
            logged: "sent no certificate",
        },
        Case {
            what: "a client that does not trust the service",
            credentials: keys.client("foreign-ca", certificate, Some("good")),
            answer: None,
            logged: "rejected this server's certificate",
        },
        Case {
            what: "plain text",
            credentials: keys.plain_client(Some("good")),
            answer: None,
            logged: "plain text on a TLS port",
        },
    ] {
        expect_refusal(service, &case).await;
        expect_good_call(service, keys).await;
    }
    let log = service.log();
    for token in ["good", "other-scope", "unknown"] {
        let file = keys.path(&format!("{token}.token"));
        let token = std::fs::read_to_string(file).expect("the token file exists");
        assert!(!log.contains(&token), "a token is in the log: {log}");
    }
    assert!(!log.contains("panicked"), "{log}");
    // A client may reconnect by itself, so the test counts log lines per connection, not per case.
    let lines = refusals(&log);
    let refused: BTreeSet<_> = lines.iter().filter_map(|line| peer(line)).collect();
    assert_eq!(refused.len(), lines.len(), "{lines:?}");
}

/// Extracts the caller's address from a line of the log.
fn peer(line: &str) -> Option<&str> {
    line.split("peer=").nth(1)?.split(' ').next()
}

/// Calls `service`, whose port has no TLS, over TLS.
pub async fn refuses_tls_on_a_plain_port<G: Guarded>(service: &G, keys: &Keys) {
    let case = Case {
        what: "TLS on a plain port",
        credentials: keys.client("ca", None, None),
        answer: None,
        logged: "TLS on a plain-text port",
    };
    expect_refusal(service, &case).await;
    let good = service.call(&Credentials::default()).await;
    assert!(good.is_ok(), "{good:?}");
}

async fn expect_good_call<G: Guarded>(service: &G, keys: &Keys) {
    let called = service.call(&good(keys)).await;
    assert!(called.is_ok(), "{called:?}: {}", service.log());
}

async fn expect_refusal<G: Guarded>(service: &G, case: &Case) {
    let refused = service.call(&case.credentials).await;
    let Err(status) = refused else {
        panic!("{} was accepted", case.what);
    };
    if let Some((code, reason)) = case.answer {
        let status = status.unwrap_or_else(|| panic!("{}: no answer", case.what));
        assert_eq!(status.code(), code, "{}: {status:?}", case.what);
        let info = status.get_details_error_info().expect("a reason is given");
        assert_eq!(info.reason, reason, "{}", case.what);
    }
    let logged = || {
        let lines = refusals(&service.log());
        lines
            .iter()
            .filter(|line| line.contains(case.logged))
            .count()
    };
    let began = Instant::now();
    while logged() == 0 {
        let late = began.elapsed() > PATIENCE;
        assert!(!late, "{} is not logged: {}", case.what, service.log());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    if case.answer.is_some() {
        assert_eq!(logged(), 1, "{}: {}", case.what, service.log());
    }
}

/// Returns the lines of the log that report rejected calls or connections.
fn refusals(log: &str) -> Vec<String> {
    let is_refusal = |line: &&str| line.contains(" refused") || line.contains(" rejected");
    let lines = log.lines().filter(is_refusal);
    lines.map(str::to_owned).collect()
}
