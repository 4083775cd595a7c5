//! `/metrics` for Prometheus, as every service serves it.

use std::{future, time::Duration};

use axum::{Router, http::header, routing::get};
use metrics_exporter_prometheus::PrometheusHandle;
use tokio::time;
use tokio_util::sync::CancellationToken;

use crate::{
    listen::http1::{self, ConnectionLimits},
    security::{GuardedPort, Staleness},
};
use common::telemetry;

/// Of a port for metrics: Prometheus needs one; people look, too.
pub const CONNECTIONS: ConnectionLimits = ConnectionLimits {
    connections: 64,
    header_time: Duration::from_secs(30),
};

/// How often the exporter tidies its histograms.
const UPKEEP_INTERVAL: Duration = Duration::from_secs(5);

/// The format's name, as Prometheus expects it.
const CONTENT_TYPE: &str = "text/plain; version=0.0.4";

/// Serves what `handle` has counted, and what `staleness` says of the credentials, until the future is
/// dropped.
pub async fn serve(port: GuardedPort, handle: PrometheusHandle, staleness: Staleness) {
    let upkeep = handle.clone();
    let keep_up = async move {
        let mut interval = time::interval(UPKEEP_INTERVAL);
        loop {
            interval.tick().await;
            upkeep.run_upkeep();
        }
    };
    let render = move || {
        let text = handle.render() + &staleness.render() + &telemetry::metrics();
        future::ready(([(header::CONTENT_TYPE, CONTENT_TYPE)], text))
    };
    let router = Router::new()
        .route("/metrics", get(render))
        .layer(port.layer);
    let never = CancellationToken::new();
    tokio::select! {
        () = http1::serve(port.listener, router, CONNECTIONS, never) => {}
        () = keep_up => {}
    }
}
