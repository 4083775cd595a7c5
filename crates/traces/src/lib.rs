//! Traces of OpenTelemetry: spans, their propagation between processes in the format of W3C, and their export
//! over OTLP.
//!
//! A process exports traces only if its environment names a collector ([`init`]). Without one, no span is
//! begun, and each function here reads one atomic variable and returns. Export never blocks or stops work:
//! ended spans wait in a bounded queue for a thread of their own; spans that do not fit, or that the collector
//! does not take, are dropped and counted ([`metrics`]).
//!
//! - [`Span`]: work in progress, which ends when it is dropped.
//! - [`Scope`]: a handle to a span: the parent of other spans.
//! - [`TraceContext`]: a span in another process: headers `traceparent` and `tracestate`.

mod collector;
mod queue;
mod settings;
mod span;
mod trace_context;

use std::{sync::OnceLock, time::Duration};

use common::config::ConfigError;
use opentelemetry::{InstrumentationScope, trace::TracerProvider};
use opentelemetry_sdk::trace::{SdkTracer, SdkTracerProvider};
use tracing::{info, warn};

use settings::Settings;

pub use opentelemetry::{KeyValue, trace::SpanKind};
pub use span::{Entered, Interval, Parent, Scope, Span, carried};
pub use trace_context::TraceContext;

/// Longest time for the last spans at the end of a process.
const FLUSH: Duration = Duration::from_secs(2);

/// Name of the library that begins the spans, as collectors show it.
const SCOPE: &str = "retort";

static TRACER: OnceLock<SdkTracer> = OnceLock::new();

/// The export of a running program. Dropping it sends the last spans, for at most two seconds.
#[derive(Debug)]
#[must_use = "the last spans are lost unless this lives as long as the program"]
pub struct Traces(Option<SdkTracerProvider>);

/// Exports spans from now on, as the variables of OpenTelemetry specify
/// (<https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/>), or does nothing if they
/// name no collector. `service` is the service's name unless they set another. Later calls change nothing.
///
/// # Errors
/// All variables with values that cannot be used.
pub fn init(service: &'static str) -> Result<Traces, ConfigError> {
    let Some(settings) = Settings::from_environment()? else {
        return Ok(Traces(None));
    };
    let endpoint = settings.endpoint.clone();
    let Some(provider) = collector::connect(service, settings)? else {
        return Ok(Traces(None));
    };
    let scope = InstrumentationScope::builder(SCOPE)
        .with_version(env!("CARGO_PKG_VERSION"))
        .build();
    if TRACER.set(provider.tracer_with_scope(scope)).is_ok() {
        info!(endpoint, "exporting traces");
    }
    Ok(Traces(Some(provider)))
}

/// Whether this process exports traces.
pub fn is_enabled() -> bool {
    TRACER.get().is_some()
}

/// Returns the numbers of exported and dropped spans as metrics in Prometheus's text format; nothing if this
/// process exports no traces.
pub fn metrics() -> String {
    if is_enabled() {
        queue::metrics()
    } else {
        String::new()
    }
}

impl Drop for Traces {
    fn drop(&mut self) {
        if let Some(provider) = &self.0
            && provider.shutdown_with_timeout(FLUSH).is_err()
        {
            warn!("the collector did not take the last spans within {FLUSH:?}");
        }
    }
}
