//! The connection to the collector, on a thread and a runtime of its own.

use std::{sync::mpsc, thread};

use common::config::{ConfigError, Problems};
use opentelemetry::{Key, KeyValue};
use opentelemetry_otlp::{SpanExporter, WithExportConfig, WithTonicConfig};
use opentelemetry_sdk::{
    Resource,
    trace::{SdkTracerProvider, SpanExporter as _},
};
use tokio::runtime::Builder;
use tracing::warn;

use crate::{
    queue::{SpanQueue, SpanSender},
    settings::{self, Settings},
};

/// What OpenTelemetry calls a service without a name begins with this.
const NAMELESS: &str = "unknown_service";

/// Starts the thread, which connects when it has spans to send. `None`, with a line in the log, if the
/// operating system refuses a thread: a program works without traces.
///
/// # Errors
/// If the exporter rejects the settings.
pub(crate) fn connect(
    service: &'static str,
    settings: Settings,
) -> Result<Option<SdkTracerProvider>, ConfigError> {
    let endpoint = settings.endpoint.clone();
    let resource = resource(service);
    let (queue, sender) = SpanQueue::new(settings.limits);
    let (report, reported) = mpsc::sync_channel(1);
    let work = {
        let resource = resource.clone();
        move || export(&settings, &resource, sender, &report)
    };
    if let Err(error) = thread::Builder::new().name("traces".to_owned()).spawn(work) {
        warn!("traces are not exported: {error}");
        return Ok(None);
    }
    // The thread reports once, unless it panics, which the log shows.
    if let Ok(Err(problem)) = reported.recv() {
        let mut problems = Problems::default();
        problems.add(settings::ENDPOINT, endpoint, &problem);
        return Err(settings::invalid(problems));
    }
    let provider = SdkTracerProvider::builder()
        .with_span_processor(queue)
        .with_resource(resource)
        .build();
    Ok(Some(provider))
}

/// Builds the exporter, reports the result, and sends spans until the queue is shut down.
fn export(
    settings: &Settings,
    resource: &Resource,
    sender: SpanSender,
    report: &mpsc::SyncSender<Result<(), String>>,
) {
    let runtime = match Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            let _ = report.send(Err(format!("cannot be connected to: {error}")));
            return;
        }
    };
    let built = {
        let _entered = runtime.enter();
        exporter(settings)
    };
    match built {
        Ok(mut exporter) => {
            exporter.set_resource(resource);
            // The receiver waits for this.
            let _ = report.send(Ok(()));
            runtime.block_on(sender.send(exporter));
        }
        Err(problem) => {
            let _ = report.send(Err(problem));
        }
    }
}

fn exporter(settings: &Settings) -> Result<SpanExporter, String> {
    let builder = SpanExporter::builder()
        .with_tonic()
        .with_endpoint(settings.endpoint.clone());
    let built = match settings.tls.clone() {
        None => builder.build(),
        Some(tls) => builder.with_tls_config(tls).build(),
    };
    built.map_err(|error| error.to_string())
}

/// The attributes of this process.
fn resource(service: &'static str) -> Resource {
    let detected = Resource::builder().build();
    let name = detected.get(&Key::from_static_str("service.name"));
    let named = name.is_some_and(|name| !name.as_str().starts_with(NAMELESS));
    let mut resource = Resource::builder().with_attributes([
        KeyValue::new("service.version", env!("CARGO_PKG_VERSION")),
        KeyValue::new("process.pid", i64::from(std::process::id())),
    ]);
    if !named {
        resource = resource.with_service_name(service);
    }
    resource.build()
}
