//! Formats the response to a request for inference: JSON, with the logits in it or after it.

use std::collections::BTreeMap;

use axum::{
    Json,
    http::{HeaderValue, header},
    response::{IntoResponse, Response},
};
use onnx_runtime::OUTPUT_NAME;
use serde::Serialize;

use super::{error::HttpError, infer_request::JSON_LENGTH};
use crate::inference::{F32, InferenceResponse};

#[derive(Serialize)]
struct ResponseJson<'r> {
    model_name: &'r str,
    model_version: String,
    #[serde(skip_serializing_if = "str::is_empty")]
    id: &'r str,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    parameters: BTreeMap<&'static str, u64>,
    outputs: [OutputJson; 1],
}

#[derive(Serialize)]
struct OutputJson {
    name: &'static str,
    datatype: &'static str,
    shape: [usize; 2],
    #[serde(skip_serializing_if = "Option::is_none")]
    parameters: Option<BinaryData>,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<Vec<f32>>,
}

#[derive(Serialize)]
struct BinaryData {
    binary_data_size: usize,
}

/// Formats `response`.
///
/// # Errors
/// [`HttpError::NotFinite`] if JSON cannot represent the logits.
pub(super) fn respond(response: &InferenceResponse, binary: bool) -> Result<Response, HttpError> {
    let logits = &response.logits;
    let (parameters, data) = if binary {
        let binary_data_size = logits.len();
        (Some(BinaryData { binary_data_size }), None)
    } else {
        (None, Some(finite_numbers(logits)?))
    };
    let json = ResponseJson {
        model_name: &response.model,
        model_version: response.version.to_string(),
        id: &response.id,
        parameters: response
            .times
            .iter()
            .flat_map(|times| times.parameters())
            .collect(),
        outputs: [OutputJson {
            name: OUTPUT_NAME,
            datatype: F32,
            shape: [response.samples, response.classes],
            parameters,
            data,
        }],
    };
    if !binary {
        return Ok(Json(json).into_response());
    }
    let mut body = serde_json::to_vec(&json).map_err(|_| HttpError::Internal)?;
    let json_length = HeaderValue::from(body.len());
    body.extend_from_slice(logits);
    let octets = HeaderValue::from_static("application/octet-stream");
    Ok((
        [(JSON_LENGTH, json_length), (header::CONTENT_TYPE, octets)],
        body,
    )
        .into_response())
}

fn finite_numbers(logits: &[u8]) -> Result<Vec<f32>, HttpError> {
    let (values, _) = logits.as_chunks();
    let values = values.iter().map(|value| f32::from_le_bytes(*value));
    let finite = values.map(|value| value.is_finite().then_some(value));
    finite.collect::<Option<_>>().ok_or(HttpError::NotFinite)
}

#[cfg(test)]
mod tests {
    use axum::body::to_bytes;
    use bytes::Bytes;
    use serde_json::{Value, json};

    use super::*;
    use crate::inference::server_times;

    fn response(logits: &[f32]) -> InferenceResponse {
        let bytes: Vec<u8> = logits
            .iter()
            .flat_map(|value| value.to_le_bytes())
            .collect();
        InferenceResponse {
            model: "digits".to_owned(),
            version: 3,
            id: "an id".to_owned(),
            samples: 1,
            classes: logits.len(),
            logits: Bytes::from(bytes),
            times: None,
        }
    }

    async fn body(response: Response) -> Bytes {
        to_bytes(response.into_body(), 10_000).await.unwrap()
    }

    #[tokio::test]
    async fn json_preserves_the_bits_of_logits() {
        let logits = [0.1, -1.5e-30, 3.402_823_5e38];
        let answer = body(respond(&response(&logits), false).unwrap()).await;
        let answer: Value = serde_json::from_slice(&answer).unwrap();
        let data = answer["outputs"][0]["data"].as_array().unwrap();
        let data: Vec<f32> = data
            .iter()
            .map(|value| value.as_f64().unwrap() as f32)
            .collect();
        assert_eq!(data, logits);
        assert_eq!(
            (
                &answer["model_name"],
                &answer["model_version"],
                &answer["id"]
            ),
            (&json!("digits"), &json!("3"), &json!("an id"))
        );
        assert_eq!(answer["outputs"][0]["shape"], json!([1, 3]));
        assert_eq!(answer.get("parameters"), None);
    }

    #[tokio::test]
    async fn the_servers_times_are_parameters() {
        let mut sent = response(&[1.0]);
        sent.times = Some(server_times::example());
        let answer = body(respond(&sent, false).unwrap()).await;
        let answer: Value = serde_json::from_slice(&answer).unwrap();
        let expected = json!({
            "request_ns": 15,
            "queue_ns": 1,
            "compute_input_ns": 2,
            "compute_infer_ns": 3,
            "compute_output_ns": 4,
        });
        assert_eq!(answer["parameters"], expected);
    }

    #[tokio::test]
    async fn binary_logits_follow_the_json() {
        let sent = response(&[1.0, f32::NAN]);
        let answer = respond(&sent, true).unwrap();
        let length = answer.headers()[JSON_LENGTH]
            .to_str()
            .unwrap()
            .parse()
            .unwrap();
        let bytes = body(answer).await;
        let (json, logits) = bytes.split_at(length);
        let json: Value = serde_json::from_slice(json).unwrap();
        let parameters = json!({"binary_data_size": 8});
        assert_eq!(json["outputs"][0]["parameters"], parameters);
        assert_eq!(json["outputs"][0].get("data"), None);
        assert_eq!(logits, sent.logits);
    }

    #[test]
    fn json_rejects_infinity() {
        let error = respond(&response(&[f32::INFINITY]), false).unwrap_err();
        assert_eq!(error, HttpError::NotFinite);
    }
}
