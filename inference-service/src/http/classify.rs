//! `POST /v1/models/{model}:classify`: classifies an image, for `curl --data-binary`.

use axum::{
    Json,
    extract::{Path, Query, Request, State, rejection::PathRejection, rejection::QueryRejection},
    response::IntoResponse,
};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Answer, Edge, body, error::HttpError, infer_request};
use crate::{
    classification::{DEFAULT_TOP_K, ImageRequest},
    inference::{RequestId, invalid},
};

const VERB: &str = ":classify";

#[derive(Deserialize)]
pub(super) struct Parameters {
    top_k: Option<usize>,
    #[serde(default)]
    version: String,
}

pub(super) async fn handle(
    State(edge): State<Edge>,
    path: Result<Path<String>, PathRejection>,
    parameters: Result<Query<Parameters>, QueryRejection>,
    request: Request,
) -> Answer {
    let Path(model_and_verb) = path.map_err(|_| invalid("path", "is not UTF-8"))?;
    let model = model_and_verb
        .strip_suffix(VERB)
        .ok_or(HttpError::NoSuchPath)?;
    let problem = "top_k must be a number, and version a string";
    let Query(parameters) = parameters.map_err(|_| invalid("query", problem))?;
    edge.inference.catalog.find(model, &parameters.version)?;
    let (parts, body) = request.into_parts();
    let image = body::receive(&parts.headers, body, edge.limits).await?;
    let request = ImageRequest {
        model: model.to_owned(),
        version: parameters.version,
        images: vec![image],
        top_k: parameters.top_k.unwrap_or(DEFAULT_TOP_K),
        deadline: None,
        request_id: RequestId::of(infer_request::request_id(&parts.headers)),
    };
    let classified = edge.classifier.classify(&edge.inference, request).await?;
    let classes = classified.images.iter().flatten().map(|class| {
        json!({
            "class_name": class.name,
            "index": class.index,
            "probability": class.probability,
            "logit": class.logit,
        })
    });
    let body = json!({
        "model_name": classified.model,
        "model_version": classified.version.to_string(),
        "classes": classes.collect::<Value>(),
    });
    Ok(Json(body).into_response())
}
