//! The web page, and the teacher beside the models on it.

use std::{io::Cursor, path::Path};

use image::{ImageFormat, RgbImage};
use networks::onnx;
use onnx_runtime::{Session, SessionOptions};
use server::security::Scope;
use test_support::{
    Teacher, built_beside, certificates::Keys, class_names, unused_address, write_artifact,
};

use crate::support::{BINARY, Connection, Response, Service, ServiceOptions};

const SIDE: u32 = 8;

fn start(settings: &[&str]) -> Service {
    Service::start(&ServiceOptions {
        set: settings,
        ..ServiceOptions::default()
    })
}

fn ask(service: &Service, line: &str, headers: &[(&str, &str)], body: &[u8]) -> Response {
    Connection::to(&service.address("http")).call(line, headers, body)
}

#[test]
fn the_page_is_off_unless_configured() {
    let service = start(&[]);
    for line in ["GET /", "GET /demo/teacher", "POST /demo/teacher"] {
        let refused = ask(&service, line, &[], b"");
        assert_eq!(refused.status, 404, "{line}");
        assert_eq!(refused.refusal().1, "NO_SUCH_PATH", "{line}");
    }
}

#[test]
fn the_page_is_one_file_that_may_only_call_its_own_port() {
    let service = start(&["http.demo_page=true"]);
    let page = ask(&service, "GET /", &[], b"");
    assert_eq!(page.status, 200);
    assert_eq!(
        page.header("content-type"),
        Some("text/html; charset=utf-8")
    );
    assert_eq!(page.header("x-content-type-options"), Some("nosniff"));
    let policy = page.header("content-security-policy").expect("a policy");
    assert!(
        policy.starts_with("default-src 'none'; script-src 'sha256-"),
        "{policy}"
    );
    assert!(policy.contains("connect-src 'self'"), "{policy}");
    let body = String::from_utf8(page.body).expect("it is UTF-8");
    assert!(body.starts_with("<!doctype html>"), "{body}");
    let method = ask(&service, "POST /", &[], b"");
    assert_eq!(
        (method.status, method.refusal().1.as_str()),
        (405, "METHOD_NOT_ALLOWED")
    );
    // Without a teacher, the page shows none.
    let teacher = ask(&service, "GET /demo/teacher", &[], b"");
    assert!(teacher.json()["address"].is_null());
    assert_eq!(ask(&service, "POST /demo/teacher", &[], b"").status, 404);
}

#[test]
fn the_page_needs_the_token_of_predictions() {
    let keys = Keys::new();
    let [web, publisher] = [("web", Scope::Predict), ("publisher", Scope::Publish)]
        .map(|(name, scope)| format!("Bearer {}", keys.token(name, scope).reveal()));
    let tokens = keys.tokens_setting();
    let service = start(&["http.demo_page=true", &tokens]);
    for (headers, expected) in [
        (&[][..], 401),
        (&[("authorization", publisher.as_str())], 403),
        (&[("authorization", web.as_str())], 200),
    ] {
        for line in ["GET /", "GET /demo/teacher"] {
            assert_eq!(ask(&service, line, headers, b"").status, expected, "{line}");
        }
    }
}

/// The logits of the network of `write_artifact` for the pixels of one image, computed from its ONNX file.
fn expected_logits(
    network: &networks::NetworkSpec,
    weights: &networks::Weights,
    pixels: &[u8],
) -> Vec<f32> {
    let model = onnx::export(network, weights).expect("the weights fit");
    let mut session = Session::load(&model, SessionOptions::default()).expect("it loads");
    let normalized: Vec<f32> = (0..3)
        .flat_map(|channel| pixels.iter().skip(channel).step_by(3))
        .map(|pixel| (f32::from(*pixel) / 255.0 - 0.3) / 0.4)
        .collect();
    session.run(&normalized, 1).expect("it runs")
}

#[test]
fn a_teacher_that_comes_later_classifies_pictures() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let network = "input = [3, 8, 8]\nclasses = 3\npreset = \"cnn\"\nwidths = [8, 16]";
    let (model, weights) = write_artifact(folder.path(), network, 5);
    let address = unused_address();
    let setting = format!("http.demo_page_teacher={address}");
    let service = start(&["http.demo_page=true", &setting]);
    let teacher = ask(&service, "GET /demo/teacher", &[], b"");
    assert_eq!(teacher.json()["address"], address.as_str());

    let picture = RgbImage::from_fn(SIDE, SIDE, |x, y| {
        image::Rgb([x * 30, y * 25, x * y].map(|value| value as u8))
    });
    let mut png = Cursor::new(Vec::new());
    picture
        .write_to(&mut png, ImageFormat::Png)
        .expect("memory is written");
    let png = png.into_inner();
    let line = "POST /demo/teacher?top_k=2";
    let away = ask(&service, line, &[], &png);
    assert_eq!(away.status, 503);
    let (message, reason) = away.refusal();
    assert_eq!(reason, "TEACHER_UNAVAILABLE");
    assert!(
        message.contains(&address) && message.contains("cannot be reached"),
        "{message}"
    );

    let binary = built_beside(BINARY, "teacher-service");
    let _teacher = Teacher::start_at(Path::new(&binary), folder.path(), &address, &[]);
    let answer = ask(&service, line, &[], &png);
    assert_eq!(
        answer.status,
        200,
        "{}",
        String::from_utf8_lossy(&answer.body)
    );
    let json = answer.json();
    let classes = json["classes"].as_array().expect("a list");
    assert_eq!(classes.len(), 2);
    let expected = expected_logits(&model.network, &weights, picture.as_raw());
    for class in classes {
        let index = class["index"].as_u64().expect("a number") as usize;
        assert_eq!(class["class_name"], class_names(3)[index].as_str());
        let logit = class["logit"].as_f64().expect("a number");
        // The teacher may compute in bf16, which has 8 significant bits.
        assert!(
            (logit - f64::from(expected[index])).abs() < 0.05,
            "{logit} {expected:?}"
        );
    }
    let broken = ask(&service, line, &[], b"no picture");
    assert_eq!(
        (broken.status, broken.refusal().1.as_str()),
        (400, "INVALID_IMAGE")
    );
}
