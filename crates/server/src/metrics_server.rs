//! The `/metrics` endpoint for Prometheus.

use std::{future, net::SocketAddr, time::Duration};

use axum::{Router, http::header, routing::get};
use metrics_exporter_prometheus::PrometheusHandle;
use serde::{Deserialize, Serialize};
use tokio::time;
use tokio_util::sync::CancellationToken;

use crate::{
    listen::{
        PortAccess,
        http1::{self, ConnectionLimits},
    },
    security::{GuardedPort, ListenConfig, Staleness},
};
use common::telemetry;

/// The `[metrics]` table of a service's configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MetricsConfig {
    /// Address to listen on; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Who may read the metrics.
    pub access: PortAccess,
}

impl MetricsConfig {
    /// The port that the table describes.
    pub fn port(&self) -> ListenConfig {
        ListenConfig {
            table: "metrics",
            listen: self.listen,
            access: self.access,
        }
    }
}

/// Limits of a port for metrics. Prometheus needs one connection; users look, too.
pub const CONNECTIONS: ConnectionLimits = ConnectionLimits {
    connections: 64,
    header_time: Duration::from_secs(30),
};

/// How often the exporter drops old samples of its histograms.
const UPKEEP_INTERVAL: Duration = Duration::from_secs(5);

/// The media type of Prometheus's text format.
const CONTENT_TYPE: &str = "text/plain; version=0.0.4";

/// Serves the metrics that `handle` renders, and those of `staleness`, the log and traces, until the future
/// is dropped.
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
        let text =
            handle.render() + &staleness.render() + &telemetry::metrics() + &traces::metrics();
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
