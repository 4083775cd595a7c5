//! The web page of `http.demo_page`: classifies pictures in a browser, with the models of this service and,
//! if one is configured, with a teacher.
//!
//! The page is one file without external resources. Its Content-Security-Policy permits its own script and
//! style, by their digests, and calls of this port only.

use std::sync::LazyLock;

use axum::{
    Json, Router,
    extract::{Query, Request, State, rejection::QueryRejection},
    http::header,
    response::IntoResponse,
    routing::get,
};
use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use common::digest::Sha256;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Answer, Edge, body, classify, error::HttpError, only};
use crate::{classification::DEFAULT_TOP_K, inference::invalid};

const PAGE: &str = include_str!("demo_page.html");

static POLICY: LazyLock<String> = LazyLock::new(|| {
    let (script, style) = (digest_of("script"), digest_of("style"));
    format!(
        "default-src 'none'; script-src {script}; style-src {style}; img-src blob:; connect-src 'self'; \
         base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
});

#[derive(Deserialize)]
struct Parameters {
    top_k: Option<usize>,
}

/// The paths of the page.
pub(super) fn routes() -> Router<Edge> {
    Router::new()
        .route("/", only(get(page)))
        .route("/demo/teacher", only(get(teacher).post(ask_teacher)))
}

async fn page() -> impl IntoResponse {
    let headers = [
        (header::CONTENT_TYPE, "text/html; charset=utf-8"),
        (header::CONTENT_SECURITY_POLICY, POLICY.as_str()),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        // After an update of the service, browsers show its page.
        (header::CACHE_CONTROL, "no-cache"),
    ];
    (headers, PAGE)
}

async fn teacher(State(edge): State<Edge>) -> Json<Value> {
    let address = edge.teacher.as_ref().map(|teacher| teacher.address());
    Json(json!({ "address": address }))
}

async fn ask_teacher(
    State(edge): State<Edge>,
    parameters: Result<Query<Parameters>, QueryRejection>,
    request: Request,
) -> Answer {
    let teacher = edge.teacher.as_ref().ok_or(HttpError::NoSuchPath)?;
    let Query(parameters) = parameters.map_err(|_| invalid("query", "top_k must be a number"))?;
    let (parts, body) = request.into_parts();
    let image = body::receive(&parts.headers, body, edge.limits).await?;
    let top_k = parameters.top_k.unwrap_or(DEFAULT_TOP_K);
    let classes = teacher.classify(&edge.classifier, image, top_k).await?;
    Ok(Json(json!({"classes": classify::classes(&classes)})).into_response())
}

/// The source expression of an element of the page in its policy.
fn digest_of(name: &str) -> String {
    let content = PAGE.split_once(&format!("<{name}>"));
    let content = content.and_then(|(_, rest)| rest.split_once(&format!("</{name}>")));
    // Holds: the page is compiled in, and a test makes the policy.
    let (content, _) = content.expect("the page has the element");
    let digest = Sha256::of(content.as_bytes()).to_bytes();
    format!("'sha256-{}'", BASE64.encode(digest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_needs_nothing_that_its_policy_forbids() {
        assert_eq!(POLICY.matches("'sha256-").count(), 2, "{}", *POLICY);
        // Handlers, styles and scripts in attributes, and resources of other places.
        for forbidden in [
            "http://",
            "https://",
            " onclick=",
            " style=\"",
            "<script ",
            "<link",
            "eval(",
        ] {
            assert!(!PAGE.contains(forbidden), "{forbidden}");
        }
        assert_eq!(PAGE.matches("<script").count(), 1);
        assert_eq!(PAGE.matches("<style").count(), 1);
    }
}
