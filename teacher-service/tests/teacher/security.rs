//! Certificates and tokens of a teacher, with real processes.

use std::process::Command;

use crate::support::{BINARY, SMALL, Teacher, write_artifact};
use proto::teacher::v1::{DescribeRequest, teacher_service_client::TeacherServiceClient};
use server::security::{Scope, client::Credentials};
use test_support::{
    certificates::Keys,
    refusals::{self, Guarded},
};
use tonic::Status;

/// A teacher that requires certificates and tokens.
struct GuardedTeacher(Teacher);

impl Guarded for GuardedTeacher {
    const SCOPE: Scope = Scope::SoftTargets;

    fn log(&self) -> String {
        self.0.process.stderr()
    }

    async fn call(&self, credentials: &Credentials) -> Result<(), Option<Status>> {
        let connected = credentials.connect(&self.0.grpc.to_string()).await;
        let mut client = TeacherServiceClient::new(connected.map_err(|_| None)?);
        let described = client.describe(DescribeRequest {}).await;
        described.map(drop).map_err(Some)
    }
}

fn start(settings: &[String]) -> Teacher {
    let folder = tempfile::tempdir().unwrap();
    write_artifact(folder.path(), SMALL, 1);
    let settings: Vec<_> = settings.iter().map(String::as_str).collect();
    crate::support::start(folder.path(), &settings)
}

#[tokio::test]
async fn a_teacher_answers_those_who_may() {
    let keys = Keys::new();
    let teacher = GuardedTeacher(start(&refusals::settings(&keys, GuardedTeacher::SCOPE)));
    refusals::refuses_all_but_good_callers(&teacher, &keys).await;
}

#[tokio::test]
async fn a_teacher_that_speaks_plain_text_says_so() {
    let keys = Keys::new();
    refusals::refuses_tls_on_a_plain_port(&GuardedTeacher(start(&[])), &keys).await;
}

/// Uses the client of the command line: a health check needs no token, `describe` does.
#[test]
fn health_is_open_and_the_rest_is_not() {
    let keys = Keys::new();
    let teacher = start(&refusals::settings(&keys, GuardedTeacher::SCOPE));
    let run = |command: &str, token: bool| {
        let mut call = Command::new(BINARY);
        call.args([command, &teacher.grpc.to_string()]);
        for (flag, file) in [
            ("--ca", "ca.pem"),
            ("--certificate", "client.pem"),
            ("--key", "client.key"),
        ] {
            call.arg(flag).arg(keys.path(file));
        }
        if token {
            call.env("RETORT_TOKEN_FILE", keys.path("good.token"));
        }
        let output = call.output().unwrap();
        let text = [output.stdout, output.stderr].concat();
        (output.status.success(), String::from_utf8(text).unwrap())
    };
    let (serves, text) = run("healthcheck", false);
    assert!(serves, "{text}");
    let (described, text) = run("describe", false);
    assert!(!described && text.contains("a token is required"), "{text}");
    let (described, text) = run("describe", true);
    assert!(described && text.contains("model id"), "{text}");
}
