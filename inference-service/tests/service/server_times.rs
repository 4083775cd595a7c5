//! The server's times as parameters of responses.

use proto::inference::{InferParameter, infer_parameter::ParameterChoice};
use serde_json::json;
use tonic::Code;

use crate::support::{
    Artifact, Connection, MODEL, Service, ServiceOptions, infer_request, publish,
};

const PARTS: [&str; 4] = [
    "queue_ns",
    "compute_input_ns",
    "compute_infer_ns",
    "compute_output_ns",
];

fn timing(choice: ParameterChoice) -> InferParameter {
    InferParameter {
        parameter_choice: Some(choice),
    }
}

/// The parts follow each other, so that their sum is at most the whole.
fn check(time: impl Fn(&str) -> i64) {
    let parts = PARTS.map(&time);
    assert!(parts.iter().all(|part| *part >= 0), "{parts:?}");
    assert!(time("compute_infer_ns") > 0);
    assert!(parts.iter().sum::<i64>() <= time("request_ns"), "{parts:?}");
}

#[tokio::test]
async fn a_caller_that_asks_gets_the_servers_times() {
    let service = Service::start(&ServiceOptions::default());
    publish(&service, &Artifact::new(1)).await;

    let (mut request, _) = infer_request(2);
    let plain = service.infer(request.clone()).await.expect("it answers");
    assert!(plain.parameters.is_empty());
    let on = timing(ParameterChoice::BoolParam(true));
    request.parameters.insert("timing".to_owned(), on);
    let timed = service.infer(request.clone()).await.expect("it answers");
    assert_eq!(timed.parameters.len(), PARTS.len() + 1);
    check(|name| match timed.parameters[name].parameter_choice {
        Some(ParameterChoice::Int64Param(nanoseconds)) => nanoseconds,
        ref other => panic!("{name}: {other:?}"),
    });
    let text = timing(ParameterChoice::StringParam("yes".to_owned()));
    request.parameters.insert("timing".to_owned(), text);
    let refused = service.infer(request).await.expect_err("it is no boolean");
    assert_eq!(refused.code(), Code::InvalidArgument);
    assert!(
        refused.message().starts_with("parameters.timing: "),
        "{refused}"
    );

    let mut http = Connection::to(&service.address("http"));
    let line = format!("POST /v2/models/{MODEL}/infer");
    let mut call = |parameters: serde_json::Value| {
        let data = vec![0.5; 64];
        let input =
            json!({"name": "input", "datatype": "FP32", "shape": [1, 1, 8, 8], "data": data});
        let body = json!({"inputs": [input], "parameters": parameters}).to_string();
        http.call(&line, &[], body.as_bytes())
    };
    assert_eq!(call(json!({})).json().get("parameters"), None);
    let timed = call(json!({"timing": true})).json();
    check(|name| timed["parameters"][name].as_i64().expect("a number"));
    assert_eq!(call(json!({"timing": "yes"})).status, 400);
}
