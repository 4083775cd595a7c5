//! `/metrics` for Prometheus, as every service serves it.

use std::{future, io, time::Duration};

use axum::{Router, http::header, routing::get};
use metrics_exporter_prometheus::PrometheusHandle;
use tokio::time;

use crate::{listen::Peer, security::GuardedPort};

/// How often the exporter tidies its histograms.
const UPKEEP_INTERVAL: Duration = Duration::from_secs(5);

/// The format's name, as Prometheus expects it.
const CONTENT_TYPE: &str = "text/plain; version=0.0.4";

/// Serves what `handle` has counted until the future is dropped.
///
/// # Errors
/// When the listener fails.
pub async fn serve(port: GuardedPort, handle: PrometheusHandle) -> io::Result<()> {
    let upkeep = handle.clone();
    let keep_up = async move {
        let mut interval = time::interval(UPKEEP_INTERVAL);
        loop {
            interval.tick().await;
            upkeep.run_upkeep();
        }
    };
    let render = move || future::ready(([(header::CONTENT_TYPE, CONTENT_TYPE)], handle.render()));
    let router = Router::new()
        .route("/metrics", get(render))
        .layer(port.layer)
        .into_make_service_with_connect_info::<Peer>();
    tokio::select! {
        served = async { axum::serve(port.listener, router).await } => served,
        () = keep_up => Ok(()),
    }
}
