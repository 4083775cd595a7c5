//! The Open Inference Protocol v2 over HTTP (REST), and classification of images for `curl`.
//!
//! docs/openapi.yaml has the paths, methods and bodies. Requests take the same path as those over gRPC.

mod body;
mod bounded_vec;
mod classify;
mod demo_page;
mod describe;
mod drain_body;
mod error;
mod infer_request;
mod infer_response;
mod json_body;
mod multipart;
mod tensor_data;

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
    error::InferenceError,
    grpc,
    inference::{Inference, invalid},
    model_parameters::{self, MAX_CLASS_NAMES_BYTES},
    teacher::Teacher,
};
use body::BodyLimits;
use error::HttpError;

/// Larger bodies are parsed on a blocking thread.
const LARGE_BODY: usize = 256 << 10;

/// State of the handlers.
#[derive(Clone)]
struct Edge {
    inference: Arc<Inference>,
    classifier: Arc<Classifier>,
    limits: BodyLimits,
    /// See `http.demo_page_teacher`.
    teacher: Option<Arc<Teacher>>,
}

/// A model and a version; an empty version selects the active one.
type Target = (String, String);
type Answer = Result<Response, HttpError>;

/// The router of all paths.
pub(crate) fn router(
    inference: Arc<Inference>,
    classifier: Arc<Classifier>,
    config: &HttpConfig,
) -> Router {
    let teacher = config.demo_page_teacher.as_deref();
    let edge = Edge {
        inference,
        classifier,
        limits: limits(config),
        teacher: teacher.map(|address| Arc::new(Teacher::new(address))),
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
    if config.demo_page {
        router = router.merge(demo_page::routes());
    }
    router
        .route("/v1/models/{model_and_verb}", only(post(classify::handle)))
        .fallback(async || HttpError::NoSuchPath)
        .with_state(edge)
}

/// Adds the outermost layer to `router`, which reads what handlers left of a body before the response is sent.
pub(crate) fn drain_bodies(router: Router, config: &HttpConfig) -> Router {
    router.layer(middleware::from_fn_with_state(
        limits(config),
        drain_body::drain_body,
    ))
}

fn limits(config: &HttpConfig) -> BodyLimits {
    BodyLimits {
        bytes: config.max_body_bytes,
        time: Duration::from_secs(config.read_timeout_seconds),
    }
}

/// Rejects other methods with an error in the protocol's format.
fn only(method: MethodRouter<Edge>) -> MethodRouter<Edge> {
    method.fallback(async || HttpError::MethodNotAllowed)
}

/// The parameters of a path.
#[derive(Deserialize)]
struct ModelPath {
    model: String,
    #[serde(default)]
    version: String,
}

fn target(path: Result<Path<ModelPath>, PathRejection>) -> Result<Target, InferenceError> {
    match path {
        Ok(Path(ModelPath { model, version })) => Ok((model, version)),
        // The only possible error, because the parameters are strings.
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
    readiness(edge.inference.readiness.is_ready(), json!({}))
}

async fn model_ready(
    State(edge): State<Edge>,
    path: Result<Path<ModelPath>, PathRejection>,
) -> Answer {
    let (model, version) = target(path)?;
    edge.inference.catalog.find(&model, &version)?;
    let ready = edge.inference.readiness.model_is_ready(&model, &version);
    Ok(readiness(ready, json!({"name": model})))
}

fn readiness(ready: bool, mut body: Value) -> Response {
    body["ready"] = ready.into();
    let status = if ready {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    (status, Json(body)).into_response()
}

async fn model_metadata(
    State(edge): State<Edge>,
    path: Result<Path<ModelPath>, PathRejection>,
) -> Answer {
    let (model, version) = target(path)?;
    let version = edge.inference.catalog.find(&model, &version)?;
    let parameters = model_parameters::of(&version, MAX_CLASS_NAMES_BYTES);
    let metadata = describe::metadata(&grpc::metadata(&version), parameters);
    Ok(Json(metadata).into_response())
}

async fn model_config(
    State(edge): State<Edge>,
    path: Result<Path<ModelPath>, PathRejection>,
) -> Answer {
    let (model, version) = target(path)?;
    let version = edge.inference.catalog.find(&model, &version)?;
    let config = grpc::model_config(&version, MAX_CLASS_NAMES_BYTES).config;
    let config = describe::config(&config.unwrap_or_default());
    Ok(Json(config).into_response())
}

async fn statistics(
    State(edge): State<Edge>,
    path: Result<Path<ModelPath>, PathRejection>,
) -> Answer {
    let (name, version) = target(path)?;
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
    let request = if body.is_empty() {
        IndexRequest::default()
    } else {
        json_body::parse(&body)?
    };
    let index = grpc::index(&edge.inference.catalog.models(), request.ready);
    Ok(Json(describe::index(&index)).into_response())
}

async fn infer(
    State(edge): State<Edge>,
    path: Result<Path<ModelPath>, PathRejection>,
    request: Request<Body>,
) -> Answer {
    let (model, version) = target(path)?;
    // Rejects the request before its body is received.
    edge.inference.catalog.find(&model, &version)?;
    let (parts, body) = request.into_parts();
    let body = body::receive(&parts.headers, body, edge.limits).await?;
    let large = body.len() > LARGE_BODY;
    let parse = move || infer_request::parse((model, version), &parts.headers, &body);
    let parsed = if large {
        let parsed = task::spawn_blocking(parse).await;
        parsed.map_err(|_| HttpError::Internal)??
    } else {
        parse()?
    };
    let response = edge.inference.infer(parsed.request).await?;
    infer_response::respond(&response, parsed.binary_output)
}
