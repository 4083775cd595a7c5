//! The Open Inference Protocol v2 over HTTP (REST), and images for `curl`.
//!
//! Paths, methods and bodies are in docs/openapi.yaml. What is asked here goes the same way as what
//! is asked over gRPC.

mod body;
mod classify;
mod describe;
mod error;
mod few;
mod infer_request;
mod infer_response;
mod json_body;
mod json_limits;
mod tensor_data;
mod unread;

use std::{sync::Arc, time::Duration};

use axum::{
    Json, Router,
    body::Body,
    extract::{Path, Request, State, rejection::PathRejection},
    http::StatusCode,
    middleware,
    response::{IntoResponse, Response},
    routing::{MethodRouter, get, post},
};
use proto::inference::ModelStatisticsRequest;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::task;

use crate::{
    classification::Classifier,
    config::HttpConfig,
    error::{InferenceError, ServiceError},
    grpc,
    inference::{Inference, invalid},
};
use body::BodyLimits;
pub use error::HttpError;

/// Bodies above this are parsed off the async threads.
const LARGE_BODY: usize = 256 << 10;

/// What the handlers share.
#[derive(Clone)]
struct Edge {
    inference: Arc<Inference>,
    classifier: Arc<Classifier>,
    limits: BodyLimits,
}

/// A model and a version, empty for the active one.
type Named = (String, String);
type Answer = Result<Response, ServiceError>;

/// All paths.
pub(crate) fn router(
    inference: Arc<Inference>,
    classifier: Arc<Classifier>,
    config: &HttpConfig,
) -> Router {
    let edge = Edge {
        inference,
        classifier,
        limits: limits(config),
    };
    let mut router = Router::new()
        .route("/v2", only(get(server_metadata)))
        .route("/v2/health/live", only(get(live)))
        .route("/v2/health/ready", only(get(ready)))
        .route("/v2/repository/index", only(post(index)));
    for model in [
        "/v2/models/{model}",
        "/v2/models/{model}/versions/{version}",
    ] {
        router = router
            .route(model, only(get(model_metadata)))
            .route(&format!("{model}/infer"), only(post(infer)))
            .route(&format!("{model}/ready"), only(get(model_ready)))
            .route(&format!("{model}/stats"), only(get(statistics)))
            .route(&format!("{model}/config"), only(get(model_config)));
    }
    router
        .route("/v1/models/{model_and_verb}", only(post(classify::handle)))
        .fallback(async || HttpError::NoSuchPath)
        .with_state(edge)
}

/// `router` with all its layers, such that each request is answered only once its body is there.
pub(crate) fn wait_for_bodies(router: Router, config: &HttpConfig) -> Router {
    router.layer(middleware::from_fn_with_state(
        limits(config),
        unread::wait_for_body,
    ))
}

fn limits(config: &HttpConfig) -> BodyLimits {
    BodyLimits {
        bytes: config.max_body_bytes,
        time: Duration::from_secs(config.read_timeout_seconds),
    }
}

/// Other methods get an error in the protocol's form.
fn only(method: MethodRouter<Edge>) -> MethodRouter<Edge> {
    method.fallback(async || HttpError::MethodNotAllowed)
}

/// The names in the path.
#[derive(Deserialize)]
struct ModelPath {
    model: String,
    #[serde(default)]
    version: String,
}

fn named(path: Result<Path<ModelPath>, PathRejection>) -> Result<Named, InferenceError> {
    match path {
        Ok(Path(ModelPath { model, version })) => Ok((model, version)),
        // The only way to fail: the names are texts of any kind.
        Err(_) => Err(invalid("path", "is not UTF-8")),
    }
}

async fn server_metadata() -> Json<Value> {
    let message = grpc::server_metadata();
    Json(json!({
        "name": message.name,
        "version": message.version,
        "extensions": message.extensions,
    }))
}

async fn live() -> Json<Value> {
    Json(json!({"live": true}))
}

async fn ready(State(edge): State<Edge>) -> Response {
    say_ready(edge.inference.readiness.is_ready(), json!({}))
}

async fn model_ready(
    State(edge): State<Edge>,
    path: Result<Path<ModelPath>, PathRejection>,
) -> Answer {
    let (model, version) = named(path)?;
    edge.inference.catalog.find(&model, &version)?;
    let ready = edge.inference.readiness.model_is_ready(&model, &version);
    Ok(say_ready(ready, json!({"name": model})))
}

fn say_ready(ready: bool, mut body: Value) -> Response {
    body["ready"] = ready.into();
    let status = match ready {
        true => StatusCode::OK,
        false => StatusCode::SERVICE_UNAVAILABLE,
    };
    (status, Json(body)).into_response()
}

async fn model_metadata(
    State(edge): State<Edge>,
    path: Result<Path<ModelPath>, PathRejection>,
) -> Answer {
    let (model, version) = named(path)?;
    let version = edge.inference.catalog.find(&model, &version)?;
    let metadata = describe::metadata(&grpc::metadata(&version));
    Ok(Json(metadata).into_response())
}

async fn model_config(
    State(edge): State<Edge>,
    path: Result<Path<ModelPath>, PathRejection>,
) -> Answer {
    let (model, version) = named(path)?;
    let version = edge.inference.catalog.find(&model, &version)?;
    let config = describe::config(&grpc::model_config(&version).config.unwrap_or_default());
    Ok(Json(config).into_response())
}

async fn statistics(
    State(edge): State<Edge>,
    path: Result<Path<ModelPath>, PathRejection>,
) -> Answer {
    let (name, version) = named(path)?;
    let request = ModelStatisticsRequest { name, version };
    let statistics = grpc::statistics(&edge.inference.catalog, &request)?;
    Ok(Json(describe::statistics(&statistics)).into_response())
}

#[derive(Default, Deserialize)]
struct IndexRequest {
    #[serde(default)]
    ready: bool,
}

async fn index(State(edge): State<Edge>, request: Request) -> Answer {
    let (parts, body) = request.into_parts();
    let body = body::receive(&parts.headers, body, edge.limits).await?;
    let request = match body.is_empty() {
        true => IndexRequest::default(),
        false => json_body::parse(&body)?,
    };
    let index = grpc::index(&edge.inference.catalog.models(), request.ready);
    Ok(Json(describe::index(&index)).into_response())
}

async fn infer(
    State(edge): State<Edge>,
    path: Result<Path<ModelPath>, PathRejection>,
    request: Request<Body>,
) -> Answer {
    let named = named(path)?;
    // Before a large body is received for nothing.
    edge.inference.catalog.find(&named.0, &named.1)?;
    let (parts, body) = request.into_parts();
    let body = body::receive(&parts.headers, body, edge.limits).await?;
    let large = body.len() > LARGE_BODY;
    let parse = move || infer_request::parse(named, &parts.headers, &body);
    let parsed = match large {
        true => task::spawn_blocking(parse)
            .await
            .map_err(|_| HttpError::Internal)?,
        false => parse(),
    }?;
    let response = edge.inference.infer(parsed.request).await?;
    Ok(infer_response::respond(&response, parsed.binary_output)?)
}
