use axum::http::HeaderValue;

use super::*;

fn parse_json(json: &str) -> Result<HttpInference, String> {
    parse_with(&[], json.as_bytes())
}

fn parse_with(lengths: &[&'static str], body: &[u8]) -> Result<HttpInference, String> {
    let mut headers = HeaderMap::new();
    for length in lengths {
        headers.append(JSON_LENGTH, HeaderValue::from_static(length));
    }
    let named = ("m".to_owned(), String::new());
    parse(named, &headers, &Bytes::copy_from_slice(body)).map_err(|error| error.to_string())
}

fn problem(parsed: Result<HttpInference, String>) -> String {
    match parsed {
        Err(error) => error,
        Ok(parsed) => {
            let input = parsed.request.inputs.into_iter().next().expect("one input");
            input
                .values
                .expect_err("the values are refused")
                .to_string()
        }
    }
}

const INPUT: &str = r#"{"name": "input", "datatype": "FP32", "shape": [1, 2], "data": [1, 2]}"#;

#[test]
fn numbers_in_the_json_are_taken() {
    let parsed = parse_json(&format!(
        r#"{{"id": "x", "inputs": [{INPUT}], "outputs": [{{"name": "logits"}}], "surprise": {{}}}}"#
    ))
    .unwrap();
    let request = parsed.request;
    assert_eq!((request.model.as_str(), request.id.as_str()), ("m", "x"));
    assert_eq!(request.outputs, ["logits"]);
    assert!(!parsed.binary_output && request.deadline.is_none());
    let input = &request.inputs[0];
    assert_eq!(
        (input.name.as_str(), input.shape.as_slice()),
        ("input", &[1, 2][..])
    );
    let values = input.values.as_ref().unwrap();
    assert!(matches!(values, InputValues::Typed(values) if values == &[1.0, 2.0]));
}

#[test]
fn the_servers_times_are_asked_for_with_a_parameter() {
    for (parameters, expected) in [
        ("{}", false),
        (r#"{"timing": false}"#, false),
        (r#"{"timing": true}"#, true),
    ] {
        let json = format!(r#"{{"inputs": [{INPUT}], "parameters": {parameters}}}"#);
        let parsed = parse_json(&json).unwrap();
        assert_eq!(parsed.request.timing, expected, "{parameters}");
    }
}

#[test]
fn bytes_behind_the_json_are_taken() {
    let json = r#"{"inputs": [{"name": "input", "datatype": "FP32", "shape": [1, 2],
        "parameters": {"binary_data_size": 8}}], "parameters": {"binary_data_output": true}}"#;
    let length: &'static str = json.len().to_string().leak();
    let body = [json.as_bytes(), &[7; 8]].concat();
    let parsed = parse_with(&[length], &body).unwrap();
    assert!(parsed.binary_output);
    let values = parsed.request.inputs[0].values.as_ref().unwrap();
    assert!(matches!(values, InputValues::Raw(bytes) if bytes[..] == [7; 8]));

    for (lengths, body, expected) in [
        (
            &[length][..],
            &body[..body.len() - 1],
            "binary_data_size: is 8, but only 7 bytes are left",
        ),
        (
            &[length],
            &[&body[..], &[0]].concat(),
            "binary data: has 1 bytes more than the inputs",
        ),
        (&["9999"], &body, "inference-header-content-length: is 9999"),
        (
            &["-1"],
            &body,
            "inference-header-content-length: is not a number",
        ),
        (
            &["+1"],
            &body,
            "inference-header-content-length: is not a number",
        ),
        (
            &["99999999999999999999"],
            &body,
            "inference-header-content-length: is not a number",
        ),
        (
            &[length, length],
            &body,
            "inference-header-content-length: is given more than once",
        ),
        (&["0"], &body, "not JSON"),
    ] {
        let error = problem(parse_with(lengths, body));
        assert!(error.contains(expected), "{expected}: {error}");
    }
}

#[test]
fn an_outputs_binary_data_takes_precedence_over_the_requests() {
    for (request, output, expected) in [
        ("{}", "{}", false),
        (r#"{"binary_data_output": true}"#, "{}", true),
        (
            r#"{"binary_data_output": true}"#,
            r#"{"binary_data": false}"#,
            false,
        ),
        ("{}", r#"{"binary_data": true}"#, true),
    ] {
        let json = format!(
            r#"{{"inputs": [{INPUT}], "parameters": {request},
                "outputs": [{{"name": "logits", "parameters": {output}}}]}}"#
        );
        assert_eq!(parse_json(&json).unwrap().binary_output, expected);
    }
}

#[test]
fn errors_name_the_invalid_field() {
    let with = |from: &str, to: &str| format!(r#"{{"inputs": [{}]}}"#, INPUT.replace(from, to));
    for (json, expected) in [
        (String::new(), "not JSON"),
        ("{".to_owned(), "not JSON"),
        ("[]".to_owned(), "request: "),
        ("{}".to_owned(), "missing field `inputs`"),
        (with("", "") + "{}", "data after the JSON"),
        (r#"{"inputs": 1}"#.to_owned(), "inputs: "),
        (
            with(r#""name": "input","#, ""),
            "inputs[0]: missing field `name`",
        ),
        (with("[1, 2],", "[1.5, 2],"), "inputs[0].shape[0]: "),
        (
            with("[1, 2],", "[9223372036854775808, 2],"),
            "inputs[0].shape[0]: ",
        ),
        (with("[1, 2],", "\"1\","), "inputs[0].shape: "),
        (with("[1, 2]}", "[1, \"2\"]}"), "inputs[0].data[1]: "),
        (with("[1, 2]}", "[NaN]}"), "not JSON"),
        (
            with(r#", "data": [1, 2]"#, ""),
            "inputs[0].data: is missing",
        ),
        (
            with("[1, 2]}", "[[1], [2]]}"),
            "inputs[0].data: is nested as [2, 1], but the shape is [1, 2]",
        ),
        (
            with("}", r#", "parameters": {"binary_data_size": 8}}"#),
            "inputs[0].data: is given in addition",
        ),
        (
            format!(r#"{{"inputs": [{INPUT}], "parameters": {{"timeout": -1}}}}"#),
            "parameters.timeout: ",
        ),
        (
            format!(r#"{{"inputs": [{INPUT}], "parameters": {{"timing": 1}}}}"#),
            "parameters.timing: ",
        ),
        (
            format!(r#"{{"inputs": [{INPUT}], "inputs": []}}"#),
            "duplicate field `inputs`",
        ),
        (
            format!(r#"{{"inputs": {}}}"#, "[".repeat(100_000)),
            "inputs[0][0]: ",
        ),
        (
            with("[1, 2]}", &"[".repeat(100_000)),
            "recursion limit exceeded",
        ),
        (format!(r#"{{"id": 5, "inputs": [{INPUT}]}}"#), "id: "),
    ] {
        let error = problem(parse_json(&json));
        let shown = &json[..json.len().min(200)];
        assert!(error.contains(expected), "{shown}: {error}");
        assert!(error.len() < 500, "{error}");
    }
    let error = problem(parse_json(&format!(
        r#"{{"inputs": "{}"}}"#,
        "x".repeat(1_000_000)
    )));
    assert!(
        error.starts_with("inputs: ") && error.len() < 1000,
        "{error}"
    );
}

#[test]
fn unsupported_parameters_are_rejected_by_name() {
    let refused = |json: String| parse_json(&json).expect_err(&json);
    let of_request = |parameter: &str| {
        refused(format!(
            r#"{{"inputs": [{INPUT}], "parameters": {{{parameter}}}}}"#
        ))
    };
    for (parameter, name) in [
        (r#""sequence_id": 7"#, "sequence_id"),
        (r#""sequence_id": "seven""#, "sequence_id"),
        (r#""sequence_start": true"#, "sequence_start"),
        (r#""sequence_end": true"#, "sequence_end"),
    ] {
        let error = of_request(parameter);
        assert!(
            error.starts_with(&format!("parameters.{name}: ")),
            "{error}"
        );
    }
    let output = |parameter: &str| {
        format!(
            r#"{{"inputs": [{INPUT}], "outputs": [{{"name": "logits", "parameters": {{{parameter}}}}}]}}"#
        )
    };
    let error = refused(output(r#""classification": 2"#));
    assert!(
        error.starts_with("outputs[0].parameters.classification: "),
        "{error}"
    );
    let error = refused(output(r#""shared_memory_region": "r""#));
    assert!(
        error.starts_with("outputs[0].parameters.shared_memory_region: "),
        "{error}"
    );
    let error = refused(
        r#"{"inputs": [{"name": "input", "datatype": "FP32", "shape": [1, 2],
            "parameters": {"shared_memory_region": "r"}}]}"#
            .to_owned(),
    );
    assert!(
        error.starts_with("inputs[0].parameters.shared_memory_region: "),
        "{error}"
    );

    // Default values, and parameters that do not affect the response.
    parse_json(&output(r#""classification": 0, "binary_data": false"#)).unwrap();
    let nothing = r#""sequence_id": 0, "sequence_start": false, "priority": 1"#;
    let json = format!(r#"{{"inputs": [{INPUT}], "parameters": {{{nothing}}}}}"#);
    parse_json(&json).unwrap();
}

#[test]
fn unknown_fields_may_nest_to_any_depth() {
    let nested = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    parse_json(&format!(r#"{{"inputs": [{INPUT}], "unknown": {nested}}}"#)).unwrap();
}
