//! Bytes over gRPC that no client library would send.

use std::io::Write;

use flate2::{Compression, write::GzEncoder};
use http_body_util::BodyExt;
use tonic::{
    Code, Status,
    body::Body,
    client::GrpcService,
    codegen::http::{HeaderMap, Request},
    transport::Channel,
};
use tonic_types::StatusExt;

use super::Target;

const INFER: &str = "/inference.GRPCInferenceService/ModelInfer";
const STREAM: &str = "/inference.GRPCInferenceService/ModelStreamInfer";
const READY: &str = "/inference.GRPCInferenceService/ModelReady";
const CLASSIFY: &str = "/retort.predict.v1.PredictorService/Classify";
const PUBLISH: &str = "/retort.publish.v1.PublisherService/Publish";
const LIST: &str = "/retort.publish.v1.PublisherService/ListVersions";
const HEALTH: &str = "/grpc.health.v1.Health/Check";

/// Calls whose first field is a string or a message.
const CALLS: [(&str, &str); 8] = [
    ("grpc", INFER),
    ("grpc", STREAM),
    ("grpc", READY),
    ("grpc", CLASSIFY),
    ("grpc", HEALTH),
    ("admin", READY),
    ("admin", PUBLISH),
    ("admin", LIST),
];

/// A request body and its error.
struct Case {
    what: &'static str,
    encoding: Option<&'static str>,
    body: Vec<u8>,
    code: Code,
    reason: &'static str,
    /// Calls that accept it, or reject it for another reason.
    except: &'static [&'static str],
}

/// A message with its prefix of a flag and a length.
fn framed(flag: u8, message: &[u8]) -> Vec<u8> {
    let length = (message.len() as u32).to_be_bytes();
    [&[flag], &length[..], message].concat()
}

fn malformed(what: &'static str, body: Vec<u8>) -> Case {
    Case {
        what,
        encoding: None,
        body,
        code: Code::InvalidArgument,
        reason: "MALFORMED_MESSAGE",
        except: &[],
    }
}

fn cases() -> Vec<Case> {
    let gzip = Some("gzip");
    let mut cases = vec![
        malformed("no UTF-8", framed(0, &[0x0a, 2, 0xff, 0xfe])),
        malformed("a field that is cut", framed(0, &[0x0a, 100, b'x'])),
        malformed("no protobuf", framed(0, &[0xff; 100])),
        malformed("a message that is cut", framed(0, &[0; 100])[..50].to_vec()),
        malformed("a prefix that is cut", vec![0, 0, 0]),
        malformed("an unknown flag", framed(7, &[])),
        malformed("compressed without an encoding", framed(1, &[0; 9])),
    ];
    cases.push(Case {
        encoding: gzip,
        // Does not accept compressed messages.
        except: &[HEALTH],
        ..malformed("no gzip", framed(1, b"no gzip"))
    });
    cases.push(Case {
        // Streams may be empty, and uploads have their own reason for that.
        except: &[STREAM, PUBLISH],
        ..malformed("no message", Vec::new())
    });
    cases.push(Case {
        // Empty fields of two bytes each; health checks use tonic's own codec.
        reason: "TOO_MANY_FIELDS",
        except: &[HEALTH],
        ..malformed("very many fields", framed(0, &[0x2a, 0].repeat(70_000)))
    });
    let too_large = |what, encoding, body| Case {
        code: Code::OutOfRange,
        reason: "MESSAGE_TOO_LARGE",
        encoding,
        // Has tonic's limit, and does not accept compressed messages.
        except: &[HEALTH],
        ..malformed(what, body)
    };
    let large = vec![0; 2 << 20];
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(&large).expect("memory is written");
    let bomb = encoder.finish().expect("memory is written");
    cases.push(too_large("a large message", None, framed(0, &large)));
    cases.push(too_large("a gzip bomb", gzip, framed(1, &bomb)));
    cases.push(Case {
        code: Code::Unimplemented,
        reason: "UNKNOWN_ENCODING",
        encoding: Some("br"),
        ..malformed("an unknown encoding", framed(1, &[0; 9]))
    });
    cases
}

#[tokio::test]
async fn every_call_rejects_malformed_messages_with_a_reason() {
    let mut target = Target::start().await;
    for port in ["grpc", "admin"] {
        // One connection for all cases.
        let mut channel = target.service.channel(port).await;
        for case in cases() {
            let calls = CALLS.into_iter().filter(|(of, _)| *of == port);
            for (_, path) in calls.filter(|(_, path)| !case.except.contains(path)) {
                let status = call(&mut channel, path, &case).await;
                let what = format!("{path}: {}: {status}", case.what);
                assert_eq!(status.code(), case.code, "{what}");
                assert_eq!(reason(&status), case.reason, "{what}");
                assert!(!status.message().is_empty(), "{what}");
                assert!(status.message().len() < 500, "{what}");
            }
            target.is_well().await;
        }
    }
}

#[tokio::test]
async fn unknown_calls_are_rejected_with_a_reason() {
    let mut target = Target::start().await;
    let empty = malformed("", framed(0, &[]));
    for (port, path) in [
        (
            "grpc",
            "/inference.GRPCInferenceService/SystemSharedMemoryStatus",
        ),
        (
            "grpc",
            "/inference.GRPCInferenceService/RepositoryModelUnload",
        ),
        ("grpc", PUBLISH),
        ("grpc", "/elsewhere.Service/Call"),
        ("admin", CLASSIFY),
    ] {
        let mut channel = target.service.channel(port).await;
        let status = call(&mut channel, path, &empty).await;
        assert_eq!(status.code(), Code::Unimplemented, "{path}: {status}");
        assert_eq!(reason(&status), "NO_SUCH_PATH", "{path}");
        assert!(!status.message().is_empty(), "{path}");
    }
    target.is_well().await;
}

fn reason(status: &Status) -> String {
    let info = status.get_details_error_info();
    let info = info.unwrap_or_else(|| panic!("no reason: {status:?}"));
    assert_eq!(info.domain, "retort");
    info.reason
}

/// The status of a call, in the headers or in the trailers.
async fn call(channel: &mut Channel, path: &str, case: &Case) -> Status {
    let mut request = Request::post(path)
        .header("content-type", "application/grpc")
        .header("te", "trailers");
    if let Some(encoding) = case.encoding {
        request = request.header("grpc-encoding", encoding);
    }
    let body = Body::new(http_body_util::Full::from(case.body.clone()));
    let request = request.body(body).expect("a request");
    std::future::poll_fn(|context| channel.poll_ready(context))
        .await
        .expect("the connection is there");
    let response = channel.call(request).await.expect("an answer");
    let (head, body) = response.into_parts();
    let body = body.collect().await.expect("a whole answer");
    let trailers = body.trailers().cloned();
    let [headers, trailers] = [head.headers, trailers.unwrap_or_default()];
    let status = |map: &HeaderMap| Status::from_header_map(map);
    let status = status(&headers).or_else(|| status(&trailers));
    status.expect("a status")
}
