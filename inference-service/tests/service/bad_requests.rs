//! Invalid requests, accidental or malicious: each gets a code, and a reason or a field, and does not affect
//! other requests.

mod grpc;
mod http;
mod images;
mod messages;

use crate::support::{Artifact, Service, ServiceOptions, assert_close, infer_request, publish};

/// A service with one model, and the id of its process.
struct Target {
    service: Service,
    artifact: Artifact,
    pid: u32,
}

impl Target {
    async fn start() -> Self {
        Self::start_with(&[]).await
    }

    /// A service with additional settings.
    async fn start_with(more: &[&str]) -> Self {
        let limits = [
            "grpc.max_message_bytes=1048576",
            "http.max_body_bytes=1048576",
            "images.max_pixels=1000000",
            "publish.max_model_bytes=1000000",
            "publish.max_manifest_bytes=100000",
        ];
        let options = ServiceOptions {
            set: &[&limits, more].concat(),
            ..ServiceOptions::default()
        };
        let service = Service::start(&options);
        let artifact = Artifact::new(1);
        publish(&service, &artifact).await;
        let pid = service.pid();
        Self {
            service,
            artifact,
            pid,
        }
    }

    /// Asserts that the same process still answers valid requests, and that nothing has panicked.
    async fn is_well(&mut self) {
        let (request, values) = infer_request(3);
        let response = self.service.infer(request).await.expect("it answers");
        let logits = self.artifact.logits(&values);
        assert_close(&response.raw_output_contents[0], &logits);
        assert_eq!(response.model_version, "1");
        assert_eq!(self.service.pid(), self.pid);
        assert!(self.service.is_running());
        let log = self.service.log();
        assert!(!log.contains("panicked"), "{log}");
    }
}
