//! `POST /v1/models/{model}:classify`: classifies an image, for `curl --data-binary`, or several of any sizes, for
//! `curl -F`.

use axum::{
    Json,
    extract::{Path, Query, Request, State, rejection::PathRejection, rejection::QueryRejection},
    response::IntoResponse,
};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Answer, Edge, body, error::HttpError, infer_request, multipart};
use crate::{
    classification::{DEFAULT_TOP_K, ImageRequest, RankedClass},
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
    let boundary = multipart::boundary(&parts.headers).map_err(HttpError::Malformed)?;
    let body = body::receive(&parts.headers, body, edge.limits).await?;
    let images = match &boundary {
        None => vec![body],
        Some(boundary) => multipart::parts(&body, boundary).map_err(HttpError::Malformed)?,
    };
    let request = ImageRequest {
        model: model.to_owned(),
        version: parameters.version,
        images,
        top_k: parameters.top_k.unwrap_or(DEFAULT_TOP_K),
        deadline: None,
        request_id: RequestId::of(infer_request::request_id(&parts.headers)),
    };
    let classified = edge.classifier.classify(&edge.inference, request).await?;
    let mut answer = json!({
        "model_name": classified.model,
        "model_version": classified.version.to_string(),
    });
    let mut images = classified.images.iter().map(|ranked| classes(ranked));
    match boundary {
        None => answer["classes"] = images.next().unwrap_or_default(),
        Some(_) => {
            let images = images.map(|classes| json!({ "classes": classes }));
            answer["images"] = images.collect();
        }
    }
    Ok(Json(answer).into_response())
}

/// The ranked classes of one image.
pub(super) fn classes(ranked: &[RankedClass]) -> Value {
    let classes = ranked.iter().map(|class| {
        json!({
            "class_name": class.name,
            "index": class.index,
            "probability": class.probability,
            "logit": class.logit,
        })
    });
    classes.collect()
}
