//! Invalid HTTP requests.

use std::{io::Write, time::Duration};

use flate2::{Compression, write::GzEncoder};

use super::Target;
use crate::support::Connection;

const INFER: &str = "POST /v2/models/digits/infer";

/// A valid request with `from` replaced by `to`.
fn json(from: &str, to: &str) -> Vec<u8> {
    let data = vec!["0.5"; 64].join(", ");
    let good = format!(
        r#"{{"inputs": [{{"name": "input", "datatype": "FP32", "shape": [1, 1, 8, 8], "data": [{data}]}}]}}"#
    );
    assert!(from.is_empty() || good.contains(from), "{from}");
    good.replacen(from, to, usize::from(!from.is_empty()))
        .into_bytes()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(bytes).expect("memory is written");
    encoder.finish().expect("memory is written")
}

struct Case {
    line: &'static str,
    headers: Vec<(&'static str, &'static str)>,
    body: Vec<u8>,
    status: u16,
    reason: &'static str,
    /// Part of the message.
    says: &'static str,
}

fn case(
    line: &'static str,
    body: Vec<u8>,
    (status, reason, says): (u16, &'static str, &'static str),
) -> Case {
    Case {
        line,
        headers: Vec::new(),
        body,
        status,
        reason,
        says,
    }
}

fn cases() -> Vec<Case> {
    let request = |says| (400, "INVALID_REQUEST", says);
    let malformed = |says| (400, "MALFORMED_BODY", says);
    let deep = |prefix: &str| format!("{prefix}{}", "[".repeat(100_000)).into_bytes();
    let mut cases = vec![
        case(
            "GET /",
            vec![],
            (404, "NO_SUCH_PATH", "nothing at this path"),
        ),
        case(
            "GET /v2/nothing",
            vec![],
            (404, "NO_SUCH_PATH", "nothing at this path"),
        ),
        case(
            "GET /v2/models/digits/infer",
            vec![],
            (405, "METHOD_NOT_ALLOWED", "method"),
        ),
        case(
            "DELETE /v2/models/digits",
            vec![],
            (405, "METHOD_NOT_ALLOWED", "method"),
        ),
        case(
            "GET /v2/models/cats",
            vec![],
            (404, "MODEL_NOT_FOUND", "`cats`"),
        ),
        case(
            "GET /v2/models/cats/ready",
            vec![],
            (404, "MODEL_NOT_FOUND", "`cats`"),
        ),
        case(
            "GET /v2/models/cats/stats",
            vec![],
            (404, "MODEL_NOT_FOUND", "`cats`"),
        ),
        case(
            "GET /v2/models/cats/config",
            vec![],
            (404, "MODEL_NOT_FOUND", "`cats`"),
        ),
        case(
            "POST /v2/models/cats/infer",
            json("", ""),
            (404, "MODEL_NOT_FOUND", "`cats`"),
        ),
        case(
            "GET /v2/models/digits/versions/2",
            vec![],
            (404, "VERSION_NOT_FOUND", "`2`"),
        ),
        case(
            "GET /v2/models/digits/versions/01",
            vec![],
            (404, "VERSION_NOT_FOUND", "`01`"),
        ),
        case(
            "GET /v2/models/..%2f..%2fetc%2fpasswd",
            vec![],
            (404, "MODEL_NOT_FOUND", "`../../etc"),
        ),
        case(
            "GET /v2/models/digits%00",
            vec![],
            (404, "MODEL_NOT_FOUND", "`digits"),
        ),
        case(
            "GET /v2/models/%ff%fe",
            vec![],
            (400, "INVALID_REQUEST", "path: is not UTF-8"),
        ),
        case(INFER, vec![], malformed("not JSON")),
        case(INFER, b"{".to_vec(), malformed("not JSON")),
        case(INFER, b"\xff\xfe".to_vec(), malformed("not JSON")),
        case(INFER, json("0.5", "NaN"), malformed("not JSON")),
        case(
            INFER,
            json("}]}", "}]} {}"),
            malformed("data after the JSON"),
        ),
        case(
            INFER,
            deep(r#"{"inputs": [{"data": "#),
            malformed("recursion limit exceeded"),
        ),
        case(INFER, deep(r#"{"inputs": "#), request("inputs[0][0]: ")),
        case(INFER, deep(r#"{"surprise": "#), malformed("not JSON")),
        case(INFER, deep(""), request("invalid type: sequence")),
        case(INFER, b"[]".to_vec(), request("request: ")),
        case(INFER, b"{}".to_vec(), request("missing field `inputs`")),
        case(
            INFER,
            br#"{"inputs": []}"#.to_vec(),
            request("inputs: 0 tensors"),
        ),
        case(
            INFER,
            json("\"input\"", "\"image\""),
            request("inputs[0].name: `image`"),
        ),
        case(
            INFER,
            json("\"input\"", "\"in\\u0000put\""),
            request("inputs[0].name: "),
        ),
        case(
            INFER,
            json("\"input\"", "\"\\ud800\""),
            malformed("not JSON"),
        ),
        case(
            INFER,
            json("FP32", "FP16"),
            request("inputs[0].datatype: `FP16`"),
        ),
        case(
            INFER,
            json("[1, 1, 8, 8]", "[1, 64]"),
            request("inputs[0].shape: [1, 64]"),
        ),
        case(
            INFER,
            json("[1, 1, 8, 8]", "[-1, 1, 8, 8]"),
            request("inputs[0].shape: [-1, "),
        ),
        case(
            INFER,
            json("[1, 1, 8, 8]", "[65, 1, 8, 8]"),
            request("inputs[0].shape: [65, "),
        ),
        case(
            INFER,
            json("[1, 1, 8, 8]", "[9223372036854775808]"),
            request("inputs[0].shape[0]: "),
        ),
        case(
            INFER,
            json("[1, 1, 8, 8]", "[288230376151711745, 1, 8, 8]"),
            request("inputs[0].shape: "),
        ),
        case(
            INFER,
            json("0.5, ", ""),
            request("inputs[0].data: 63 values"),
        ),
        case(INFER, json("0.5", "\"0.5\""), request("inputs[0].data")),
        case(INFER, json("0.5", "[0.5]"), request("inputs[0].data")),
        case(
            INFER,
            json("0.5", "1e300"),
            request("inputs[0].data: value 0 is inf"),
        ),
        case(
            "POST /v2/repository/index",
            b"{".to_vec(),
            malformed("not JSON"),
        ),
        case(
            "POST /v2/repository/index",
            b"{} {}".to_vec(),
            malformed("data after the JSON"),
        ),
        case(
            "POST /v2/repository/index",
            deep(r#"{"ready": "#),
            request("ready: invalid type: sequence"),
        ),
        case(
            "POST /v2/repository/index",
            format!(r#"{{"ready": "{}"}}"#, "x".repeat(1_000_000)).into_bytes(),
            request("ready: invalid type: string"),
        ),
        case(
            "POST /v1/models/digits:explain",
            vec![],
            (404, "NO_SUCH_PATH", "nothing"),
        ),
        case(
            "POST /v1/models/cats:classify",
            vec![],
            (404, "MODEL_NOT_FOUND", "`cats`"),
        ),
        case(
            "POST /v1/models/digits:classify",
            vec![],
            (400, "INVALID_IMAGE", "images[0]: "),
        ),
        case(
            "POST /v1/models/digits:classify?top_k=x",
            vec![],
            request("query: "),
        ),
        case(
            INFER,
            vec![b' '; (1 << 20) + 1],
            (413, "BODY_TOO_LARGE", "at most 1048576"),
        ),
    ];
    let mut with = |name, value, body, expected| {
        let mut case = case(INFER, body, expected);
        case.headers.push((name, value));
        cases.push(case);
    };
    let length = "inference-header-content-length";
    with(
        length,
        "999999",
        json("", ""),
        request("inference-header-content-length: is 999999"),
    );
    with(
        length,
        "-5",
        json("", ""),
        request("inference-header-content-length: is not a number"),
    );
    with(length, "10", json("", ""), malformed("not JSON"));
    with(
        "content-encoding",
        "br",
        json("", ""),
        (415, "UNKNOWN_ENCODING", "gzip, deflate"),
    );
    with(
        "content-encoding",
        "gzip",
        json("", ""),
        malformed("cannot be decompressed"),
    );
    let bomb = gzip(&vec![b' '; 100_000_000]);
    with(
        "content-encoding",
        "gzip",
        bomb,
        (413, "BODY_TOO_LARGE", "at most 1048576"),
    );
    cases
}

#[tokio::test]
async fn each_gets_its_status_its_reason_and_its_field_and_the_connection_stays_open() {
    let mut target = Target::start().await;
    let mut connection = Connection::to(&target.service.address("http"));
    for case in cases() {
        let Case {
            line,
            status,
            reason,
            says,
            ..
        } = case;
        let shown = String::from_utf8_lossy(&case.body[..case.body.len().min(80)]).into_owned();
        let response = connection.call(line, &case.headers, &case.body);
        let (error, found) = response.refusal();
        assert_eq!(
            (response.status, found.as_str()),
            (status, reason),
            "{line} {shown}: {error}"
        );
        assert!(error.contains(says), "{line} {shown}: {error}");
        assert!(error.len() < 500, "{error}");
        if response.header("connection") == Some("close") || status == 413 {
            // The rest of the body would be taken for the next request.
            connection = Connection::to(&target.service.address("http"));
        }
        let good = connection.call(INFER, &[], &json("", ""));
        assert_eq!(good.status, 200, "{line} {shown}: {:?}", good.json());
    }
    target.is_well().await;
}

#[tokio::test]
async fn a_late_body_of_a_rejected_request_does_not_end_the_connection() {
    let mut target = Target::start().await;
    let mut connection = Connection::to(&target.service.address("http"));
    let body = json("", "");
    for line in [
        "POST /v2/models/cats/infer",
        "POST /v2/models/digits",
        "POST /nowhere",
    ] {
        let head = format!(
            "{line} HTTP/1.1\r\nhost: test\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        connection.send(head.as_bytes());
        // Long enough for the rejection to be sent.
        tokio::time::sleep(Duration::from_millis(100)).await;
        connection.send(&body);
        let refused = connection.receive().expect("an answer");
        assert!((404..=405).contains(&refused.status), "{refused:?}");
        let good = connection.call(INFER, &[], &body);
        assert_eq!(good.status, 200, "after {line}: {good:?}");
    }
    // The service does not wait for a client that waits for an interim response.
    let head = "POST /nowhere HTTP/1.1\r\nhost: test\r\ncontent-length: 10\r\nexpect: 100-continue\r\n\r\n";
    connection.send(head.as_bytes());
    let refused = connection.receive().expect("an answer");
    assert_eq!(refused.status, 404, "{refused:?}");
    assert_eq!(refused.header("connection"), Some("close"));
    assert!(connection.receive().is_none());
    target.is_well().await;
}

#[tokio::test]
async fn invalid_and_endless_requests_end_only_their_own_connection() {
    let mut target = Target::start_with(&["http.read_timeout_seconds=2"]).await;
    let address = target.service.address("http");
    let head = "POST /v2/models/digits/infer HTTP/1.1\r\nhost: test\r\n";
    let cases = [
        ("\x16\x03\x01 not HTTP\r\n\r\n".to_owned(), 400),
        ("GET /v2 HTTP/1.1\r\n".to_owned(), 408),
        (format!("{head}content-length: 10\r\n\r\nabc"), 408),
        (
            format!("{head}transfer-encoding: chunked\r\n\r\nzz\r\n"),
            400,
        ),
        (format!("{head}x: {}\r\n\r\n", "y".repeat(1 << 20)), 431),
    ];
    for (bytes, status) in cases {
        let mut connection = Connection::to(&address);
        connection.send(bytes.as_bytes());
        // Or the service closes the connection.
        if let Some(response) = connection.receive() {
            assert_eq!(response.status, status, "{response:?}");
        }
        target.is_well().await;
    }
    // The client closes the connection within a request.
    let mut connection = Connection::to(&address);
    connection.send(format!("{head}content-length: 1000\r\n\r\nabc").as_bytes());
    drop(connection);
    target.is_well().await;
}
