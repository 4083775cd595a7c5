//! `inference.GRPCInferenceService`: the Open Inference Protocol v2.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use onnx_runtime::{INPUT_NAME, OUTPUT_NAME};
use proto::inference::{
    ModelInferRequest, ModelInferResponse, ModelMetadataRequest, ModelMetadataResponse,
    ModelReadyRequest, ModelReadyResponse, ModelStatisticsRequest, ModelStatisticsResponse,
    ServerLiveRequest, ServerLiveResponse, ServerMetadataRequest, ServerMetadataResponse,
    ServerReadyRequest, ServerReadyResponse, grpc_inference_service_server::GrpcInferenceService,
    model_metadata_response::TensorMetadata,
};
use tokio::{sync::oneshot, time::timeout_at};
use tonic::{Request, Response, Status, metadata::MetadataMap};

use crate::{
    batcher::{Job, Refused},
    catalog::{Catalog, LoadedVersion, no_such_model, no_such_version},
    error::InferenceError,
    request::{F32, respond, take_input},
};

/// Triton's name for ONNX models in ONNX Runtime.
const PLATFORM: &str = "onnxruntime_onnx";

/// The answer "too late" leaves this long before the caller's own deadline, to be there in time.
const ANSWER_MARGIN: Duration = Duration::from_millis(2);

/// Answers the protocol's calls.
#[derive(Debug)]
pub(crate) struct InferenceService {
    pub(crate) catalog: Arc<Catalog>,
    /// False as soon as the service is asked to stop.
    pub(crate) ready: Arc<AtomicBool>,
}

type Answer<T> = Result<Response<T>, Status>;

#[tonic::async_trait]
impl GrpcInferenceService for InferenceService {
    async fn server_live(&self, _: Request<ServerLiveRequest>) -> Answer<ServerLiveResponse> {
        Ok(Response::new(ServerLiveResponse { live: true }))
    }

    async fn server_ready(&self, _: Request<ServerReadyRequest>) -> Answer<ServerReadyResponse> {
        let ready = self.ready.load(Ordering::Relaxed);
        Ok(Response::new(ServerReadyResponse { ready }))
    }

    async fn model_ready(&self, request: Request<ModelReadyRequest>) -> Answer<ModelReadyResponse> {
        let request = request.get_ref();
        let found = self.catalog.find(&request.name, &request.version).is_ok();
        let ready = found && self.ready.load(Ordering::Relaxed);
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
        let version = self.catalog.find(&request.name, &request.version)?;
        Ok(Response::new(metadata(&version)))
    }

    async fn model_infer(&self, request: Request<ModelInferRequest>) -> Answer<ModelInferResponse> {
        let deadline = deadline(request.metadata());
        let request = request.into_inner();
        let version = self
            .catalog
            .find(&request.model_name, &request.model_version)?;
        let record = version.statistics.begin();
        let outcome = infer(&version, request, deadline).await;
        record.end(&outcome);
        Ok(Response::new(outcome?))
    }

    async fn model_statistics(
        &self,
        request: Request<ModelStatisticsRequest>,
    ) -> Answer<ModelStatisticsResponse> {
        let request = request.get_ref();
        let models = self.catalog.models();
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

async fn infer(
    version: &LoadedVersion,
    mut request: ModelInferRequest,
    deadline: Option<Instant>,
) -> Result<ModelInferResponse, InferenceError> {
    let max_batch_size = version.batching.max_batch_size;
    let input = take_input(&mut request, &version.interface, max_batch_size)?;
    let (reply, answer) = oneshot::channel();
    let job = Job {
        input: input.values,
        samples: input.samples,
        enqueued: Instant::now(),
        deadline,
        reply,
    };
    let stopped = || InferenceError::WorkerStopped {
        model: version.model.clone(),
    };
    version.batcher.push(job).map_err(|refused| match refused {
        Refused::Full => InferenceError::QueueFull {
            capacity: version.batching.max_queue_size,
        },
        Refused::Closed => stopped(),
    })?;
    let answer = match deadline {
        None => answer.await,
        Some(deadline) => timeout_at(deadline.into(), answer)
            .await
            .map_err(|_| InferenceError::DeadlineExceeded)?,
    };
    let logits = answer.map_err(|_| stopped())??;
    Ok(respond(request, version.version, input.samples, logits))
}

fn metadata(version: &LoadedVersion) -> ModelMetadataResponse {
    let tensor = |name: &str, sample: &[usize]| TensorMetadata {
        name: name.to_owned(),
        datatype: F32.to_owned(),
        // -1 is the batch.
        shape: [-1]
            .into_iter()
            .chain(sample.iter().map(|size| *size as i64))
            .collect(),
    };
    ModelMetadataResponse {
        name: version.model.to_string(),
        versions: vec![version.version.to_string()],
        platform: PLATFORM.to_owned(),
        inputs: vec![tensor(INPUT_NAME, &version.interface.input_shape)],
        outputs: vec![tensor(OUTPUT_NAME, &[version.interface.classes])],
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
