//! A collector of OpenTelemetry traces: receives spans over OTLP and shows them to a test.

use std::{
    collections::BTreeMap,
    net::{SocketAddr, TcpListener},
    sync::{Arc, Mutex},
    thread,
};

use opentelemetry_proto::tonic::{
    collector::trace::v1::{
        ExportTraceServiceRequest, ExportTraceServiceResponse,
        trace_service_server::{TraceService, TraceServiceServer},
    },
    common::v1::{AnyValue, KeyValue, any_value::Value},
    trace::v1::{Span, status::StatusCode},
};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status, transport::Server};

use crate::conditions::eventually;

/// A running collector on a free port.
pub struct TraceCollector {
    address: SocketAddr,
    spans: Arc<Mutex<Vec<CollectedSpan>>>,
}

/// A received span. Ids are in hexadecimal digits.
#[derive(Debug, Clone)]
pub struct CollectedSpan {
    /// The attribute `service.name` of the process.
    pub service: String,
    pub name: String,
    pub trace: String,
    pub id: String,
    /// Empty for the first span of a trace.
    pub parent: String,
    pub attributes: BTreeMap<String, String>,
    /// Traces and spans.
    pub links: Vec<(String, String)>,
    pub failed: bool,
}

impl TraceCollector {
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let collector = Self {
            address: listener.local_addr().unwrap(),
            spans: Arc::default(),
        };
        let service = Receiver(Arc::clone(&collector.spans));
        thread::spawn(move || {
            let mut runtime = tokio::runtime::Builder::new_current_thread();
            let runtime = runtime.enable_all().build().unwrap();
            runtime.block_on(async {
                listener.set_nonblocking(true).unwrap();
                let listener = tokio::net::TcpListener::from_std(listener).unwrap();
                let server = Server::builder().add_service(TraceServiceServer::new(service));
                let connections = TcpListenerStream::new(listener);
                server.serve_with_incoming(connections).await.unwrap();
            });
        });
        collector
    }

    /// Variables with which a process sends its spans here soon after they end.
    pub fn environment(&self) -> [(&'static str, String); 2] {
        let endpoint = format!("http://{}", self.address);
        [
            ("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint),
            ("OTEL_BSP_SCHEDULE_DELAY", "20".to_owned()),
        ]
    }

    /// The spans so far.
    pub fn spans(&self) -> Vec<CollectedSpan> {
        self.spans.lock().unwrap().clone()
    }

    /// Waits for a span of that name for which `is_meant` holds.
    pub fn span(&self, name: &str, is_meant: impl Fn(&CollectedSpan) -> bool) -> CollectedSpan {
        eventually(&format!("the span {name}"), || {
            let mut spans = self.spans().into_iter();
            spans.find(|span| span.name == name && is_meant(span))
        })
    }

    /// Waits for a part of the span `parent`.
    pub fn part(&self, parent: &CollectedSpan, name: &str) -> CollectedSpan {
        self.span(name, |span| {
            span.trace == parent.trace && span.parent == parent.id
        })
    }
}

struct Receiver(Arc<Mutex<Vec<CollectedSpan>>>);

#[tonic::async_trait]
impl TraceService for Receiver {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        for resource in request.into_inner().resource_spans {
            let attributes = resource.resource.unwrap_or_default().attributes;
            let service = attributes_of(attributes).remove("service.name");
            let service = service.unwrap_or_default();
            let spans = resource
                .scope_spans
                .into_iter()
                .flat_map(|scope| scope.spans);
            let spans = spans.map(|span| CollectedSpan::new(&service, span));
            self.0.lock().unwrap().extend(spans);
        }
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

impl CollectedSpan {
    fn new(service: &str, span: Span) -> Self {
        let links = span.links.iter();
        let links = links.map(|link| (digits(&link.trace_id), digits(&link.span_id)));
        let status = span.status.unwrap_or_default();
        Self {
            service: service.to_owned(),
            name: span.name,
            trace: digits(&span.trace_id),
            id: digits(&span.span_id),
            parent: digits(&span.parent_span_id),
            links: links.collect(),
            attributes: attributes_of(span.attributes),
            failed: status.code() == StatusCode::Error,
        }
    }
}

fn digits(id: &[u8]) -> String {
    id.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn attributes_of(attributes: Vec<KeyValue>) -> BTreeMap<String, String> {
    let text = |value: Option<AnyValue>| match value.and_then(|value| value.value) {
        Some(Value::StringValue(text)) => text,
        Some(Value::IntValue(number)) => number.to_string(),
        Some(Value::BoolValue(on)) => on.to_string(),
        other => format!("{other:?}"),
    };
    let pairs = attributes.into_iter();
    pairs.map(|pair| (pair.key, text(pair.value))).collect()
}
