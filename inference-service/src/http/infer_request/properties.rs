//! Arbitrary requests are rejected, or give the values that they contain.

use axum::http::HeaderValue;
use onnx_runtime::ModelInterface;
use proptest::{collection::vec, prelude::*, sample::select};

use super::*;
use test_support::damage::{cases, foreign, in_modest_memory};

fn interface() -> ModelInterface {
    ModelInterface {
        sample: vec![1, 2, 3],
        classes: 4,
    }
}
const SAMPLE: usize = 6;

fn parse_with(length: Option<usize>, body: Vec<u8>) -> Result<HttpInference, HttpError> {
    let mut headers = HeaderMap::new();
    if let Some(length) = length {
        headers.insert(JSON_LENGTH, HeaderValue::from(length));
    }
    parse(("m".to_owned(), String::new()), &headers, &body.into())
}

/// The bits of the model's input values.
fn taken(parsed: HttpInference) -> Result<(usize, Vec<u32>), InferenceError> {
    let (input, _) = parsed.request.check(&interface(), 8)?;
    let bits = match input.values {
        InputValues::Typed(values) => values.into_iter().map(f32::to_bits).collect(),
        InputValues::Raw(bytes) => {
            let (values, _) = bytes.as_chunks();
            values.iter().copied().map(u32::from_le_bytes).collect()
        }
    };
    Ok((input.samples, bits))
}

#[derive(Debug, Clone, Copy)]
enum Form {
    Flat,
    Nested,
    Binary,
}

/// A request for `values`: the length of its JSON if binary data follows, and its body.
fn request(values: &[f32], form: Form) -> (Option<usize>, Vec<u8>) {
    let samples = values.len() / SAMPLE;
    let mut input = serde_json::json!({
        "name": "input", "datatype": "FP32", "shape": [samples, 1, 2, 3],
    });
    match form {
        Form::Flat => input["data"] = values.into(),
        Form::Nested => {
            let rows = |image: &[f32]| image.chunks(3).map(<[f32]>::to_vec).collect::<Vec<_>>();
            let images = values.chunks(SAMPLE).map(|image| [rows(image)]);
            input["data"] = serde_json::json!(images.collect::<Vec<_>>());
        }
        Form::Binary => {
            input["parameters"] = serde_json::json!({"binary_data_size": 4 * values.len()});
        }
    }
    let json = serde_json::json!({
        "id": "an \"id\"", "inputs": [input], "outputs": [{"name": "logits"}],
        "parameters": {"timeout": 1000, "binary_data_output": true},
    });
    let mut body = json.to_string().into_bytes();
    if let Form::Binary = form {
        let length = body.len();
        body.extend(values.iter().flat_map(|value| value.to_le_bytes()));
        return (Some(length), body);
    }
    (None, body)
}

const FORMS: [Form; 3] = [Form::Flat, Form::Nested, Form::Binary];

fn values() -> impl Strategy<Value = Vec<f32>> {
    let finite = any::<u32>().prop_map(f32::from_bits);
    let finite = finite.prop_filter("JSON has finite numbers only", |value| value.is_finite());
    vec(vec(finite, SAMPLE), 1..5).prop_map(|images| images.concat())
}

/// Different numbers may round to the same f32.
fn shown(bits: &[u32]) -> Vec<f32> {
    bits.iter().copied().map(f32::from_bits).collect()
}

proptest! {
    #![proptest_config(cases(1000))]

    #[test]
    fn values_arrive_as_they_were_sent(values in values(), form in select(&FORMS[..])) {
        let (length, body) = request(&values, form);
        let parsed = parse_with(length, body).unwrap();
        prop_assert!(parsed.binary_output);
        prop_assert_eq!(&parsed.request.id, "an \"id\"");
        let (samples, bits) = taken(parsed).unwrap();
        prop_assert_eq!(samples, values.len() / SAMPLE);
        prop_assert_eq!(shown(&bits), values);
    }
}

proptest! {
    #![proptest_config(cases(4000))]

    #[test]
    fn a_foreign_request_is_refused_in_few_words_or_gives_as_many_values_as_it_says(
        body in foreign(FORMS.map(|form| request(&[0.5; 2 * SAMPLE], form).1).into()),
        length in prop_oneof![
            Just(None),
            any::<usize>().prop_map(Some),
            (0..300usize).prop_map(Some),
            Just(request(&[0.5; 2 * SAMPLE], Form::Binary).0),
        ],
    ) {
        let parsed = in_modest_memory(|| parse_with(length, body));
        let outcome = match parsed {
            Ok(parsed) => taken(parsed).map_err(|error| error.to_string()),
            Err(error) => Err(error.to_string()),
        };
        match outcome {
            Ok((samples, bits)) => {
                prop_assert_eq!(bits.len(), samples * SAMPLE);
                prop_assert!(shown(&bits).iter().all(|value| value.is_finite()));
            }
            Err(error) => prop_assert!(error.len() < 1000, "{}", error),
        }
    }
}
