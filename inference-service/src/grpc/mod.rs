//! `inference.GRPCInferenceService`: the Open Inference Protocol v2.

mod messages;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use proto::inference::{
    ModelInferRequest, ModelInferResponse, ModelMetadataRequest, ModelMetadataResponse,
    ModelReadyRequest, ModelReadyResponse, ModelStatisticsRequest, ModelStatisticsResponse,
    ServerLiveRequest, ServerLiveResponse, ServerMetadataRequest, ServerMetadataResponse,
    ServerReadyRequest, ServerReadyResponse, grpc_inference_service_server::GrpcInferenceService,
};
use tonic::{Request, Response, Status, metadata::MetadataMap};

use crate::{
    catalog::{no_such_model, no_such_version},
    inference::Inference,
};

/// The answer "too late" leaves this long before the caller's own deadline, to be there in time.
const ANSWER_MARGIN: Duration = Duration::from_millis(2);

/// Answers the protocol's calls.
#[derive(Debug)]
pub(crate) struct InferenceEdge {
    pub(crate) inference: Arc<Inference>,
}

type Answer<T> = Result<Response<T>, Status>;

#[tonic::async_trait]
impl GrpcInferenceService for InferenceEdge {
    async fn server_live(&self, _: Request<ServerLiveRequest>) -> Answer<ServerLiveResponse> {
        Ok(Response::new(ServerLiveResponse { live: true }))
    }

    async fn server_ready(&self, _: Request<ServerReadyRequest>) -> Answer<ServerReadyResponse> {
        let ready = self.inference.is_ready();
        Ok(Response::new(ServerReadyResponse { ready }))
    }

    async fn model_ready(&self, request: Request<ModelReadyRequest>) -> Answer<ModelReadyResponse> {
        let request = request.get_ref();
        let found = self.inference.catalog.find(&request.name, &request.version);
        let ready = found.is_ok() && self.inference.is_ready();
        Ok(Response::new(ModelReadyResponse { ready }))
    }

    async fn server_metadata(
        &self,
        _: Request<ServerMetadataRequest>,
    ) -> Answer<ServerMetadataResponse> {
        Ok(Response::new(ServerMetadataResponse {
            name: "retort".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            extensions: vec!["statistics".to_owned()],
        }))
    }

    async fn model_metadata(
        &self,
        request: Request<ModelMetadataRequest>,
    ) -> Answer<ModelMetadataResponse> {
        let request = request.get_ref();
        let version = self
            .inference
            .catalog
            .find(&request.name, &request.version)?;
        Ok(Response::new(messages::metadata(&version)))
    }

    async fn model_infer(&self, request: Request<ModelInferRequest>) -> Answer<ModelInferResponse> {
        let deadline = deadline(request.metadata());
        let request = messages::to_request(request.into_inner(), deadline)?;
        let response = self.inference.infer(request).await?;
        Ok(Response::new(messages::to_message(response)))
    }

    async fn model_statistics(
        &self,
        request: Request<ModelStatisticsRequest>,
    ) -> Answer<ModelStatisticsResponse> {
        let request = request.get_ref();
        let models = self.inference.catalog.models();
        if !request.name.is_empty() {
            let served = models.get(request.name.as_str());
            let served = served.ok_or_else(|| no_such_model(&request.name))?;
            let known = served
                .statistics
                .keys()
                .any(|v| v.to_string() == request.version);
            if !request.version.is_empty() && !known {
                return Err(no_such_version(&served.active, &request.version).into());
            }
        }
        let wanted = |wanted: &str, value: &str| wanted.is_empty() || wanted == value;
        let model_stats = models
            .iter()
            .filter(|(name, _)| wanted(&request.name, name.as_str()))
            .flat_map(|(name, served)| {
                let versions = served.statistics.iter();
                versions.map(|(version, statistics)| {
                    statistics.totals().to_message(name.as_str(), *version)
                })
            })
            .filter(|statistics| wanted(&request.version, &statistics.version))
            .collect();
        Ok(Response::new(ModelStatisticsResponse { model_stats }))
    }
}

/// When the caller stops waiting, less [`ANSWER_MARGIN`]; `None` for a caller that waits for ever.
fn deadline(metadata: &MetadataMap) -> Option<Instant> {
    let timeout = parse_timeout(metadata.get("grpc-timeout")?.to_str().ok()?)?;
    Instant::now().checked_add(timeout.saturating_sub(ANSWER_MARGIN))
}

/// The header's format: at most 8 digits and a unit
/// (<https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md>).
fn parse_timeout(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.len() > 8 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let value: u64 = digits.parse().ok()?;
    match unit {
        "H" => Some(Duration::from_secs(value * 3600)),
        "M" => Some(Duration::from_secs(value * 60)),
        "S" => Some(Duration::from_secs(value)),
        "m" => Some(Duration::from_millis(value)),
        "u" => Some(Duration::from_micros(value)),
        "n" => Some(Duration::from_nanos(value)),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
