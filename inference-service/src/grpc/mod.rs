//! `inference.GRPCInferenceService`: the Open Inference Protocol v2.

mod deadline;
mod direct;
mod error;
mod messages;
mod model_config;
mod repository;

use std::{pin::Pin, sync::Arc};

use futures::{Stream, StreamExt};
use proto::inference::{
    MemoryUsage, ModelConfigRequest, ModelConfigResponse, ModelInferRequest, ModelInferResponse,
    ModelMetadataRequest, ModelMetadataResponse, ModelReadyRequest, ModelReadyResponse,
    ModelStatistics, ModelStatisticsRequest, ModelStatisticsResponse, ModelStreamInferResponse,
    RepositoryIndexRequest, RepositoryIndexResponse, RepositoryModelLoadRequest,
    RepositoryModelLoadResponse, RepositoryModelUnloadRequest, RepositoryModelUnloadResponse,
    ServerLiveRequest, ServerLiveResponse, ServerMetadataRequest, ServerMetadataResponse,
    ServerReadyRequest, ServerReadyResponse, grpc_inference_service_server::GrpcInferenceService,
};
use server::security::Caller as TokenHolder;
use tonic::{Request, Response, Status, Streaming};

use crate::{
    catalog::{Catalog, LoadedVersion, no_such_model, no_such_version},
    config::ModelControl,
    error::InferenceError,
    inference::Inference,
    publisher::{Publisher, to_the_end},
};
pub use error::GrpcError;
pub(crate) use error::Reasons;
pub(crate) use messages::{Caller, metadata};
pub(crate) use model_config::to_message as model_config;
pub(crate) use repository::index;

pub(crate) use direct::InferenceServer;

/// Requests of one stream that may be under way at a time; more are not read.
const IN_FLIGHT_A_STREAM: usize = 64;

/// The protocol's extensions that are there, in Triton's names.
const EXTENSIONS: [&str; 3] = ["model_configuration", "model_repository", "statistics"];

/// Triton's name of the memory that models are in.
const CPU: &str = "CPU";

/// Answers the protocol's calls.
#[derive(Debug)]
pub(crate) struct InferenceEdge {
    pub(crate) inference: Arc<Inference>,
    /// Who loads and unloads models.
    pub(crate) publisher: Arc<Publisher>,
    /// Whose loads and unloads are carried out at this port.
    pub(crate) model_control: ModelControl,
}

type Answer<T> = Result<Response<T>, Status>;

impl InferenceEdge {
    /// Who loads and unloads models, where the caller of `request` may ask for it.
    fn publisher<T>(&self, request: &Request<T>) -> Result<Arc<Publisher>, Status> {
        let has_token = || {
            let caller = request.extensions().get::<TokenHolder>();
            caller.is_some_and(|caller| caller.0.is_some())
        };
        let allowed = match self.model_control {
            ModelControl::EveryCaller => true,
            // The port's rules have let in those tokens only that have the scope.
            ModelControl::AdminToken => has_token(),
        };
        if allowed {
            Ok(Arc::clone(&self.publisher))
        } else {
            Err(GrpcError::ModelControl.into())
        }
    }
}

#[tonic::async_trait]
impl GrpcInferenceService for InferenceEdge {
    async fn server_live(&self, _: Request<ServerLiveRequest>) -> Answer<ServerLiveResponse> {
        Ok(Response::new(ServerLiveResponse { live: true }))
    }

    async fn server_ready(&self, _: Request<ServerReadyRequest>) -> Answer<ServerReadyResponse> {
        let ready = self.inference.readiness.is_ready();
        Ok(Response::new(ServerReadyResponse { ready }))
    }

    async fn model_ready(&self, request: Request<ModelReadyRequest>) -> Answer<ModelReadyResponse> {
        let request = request.get_ref();
        let readiness = &self.inference.readiness;
        let ready = readiness.model_is_ready(&request.name, &request.version);
        Ok(Response::new(ModelReadyResponse { ready }))
    }

    async fn server_metadata(
        &self,
        _: Request<ServerMetadataRequest>,
    ) -> Answer<ServerMetadataResponse> {
        Ok(Response::new(server_metadata()))
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
        Ok(Response::new(metadata(&version)))
    }

    async fn model_infer(&self, request: Request<ModelInferRequest>) -> Answer<ModelInferResponse> {
        let caller = Caller::of(request.metadata());
        let request = messages::to_request(request.into_inner(), &caller)?;
        let response = self.inference.infer(request).await?;
        Ok(Response::new(messages::to_message(response)))
    }

    type ModelStreamInferStream =
        Pin<Box<dyn Stream<Item = Result<ModelStreamInferResponse, Status>> + Send>>;

    async fn model_stream_infer(
        &self,
        request: Request<Streaming<ModelInferRequest>>,
    ) -> Answer<Self::ModelStreamInferStream> {
        let caller = Arc::new(Caller::of(request.metadata()));
        let inference = Arc::clone(&self.inference);
        let answer = move |message: Result<ModelInferRequest, Status>| {
            let (inference, caller) = (Arc::clone(&inference), Arc::clone(&caller));
            async move {
                let message = message.map_err(error::with_reason)?;
                Ok(messages::answer_in_stream(&inference, message, &caller).await)
            }
        };
        let answers = request
            .into_inner()
            .map(answer)
            .buffered(IN_FLIGHT_A_STREAM);
        Ok(Response::new(Box::pin(answers)))
    }

    async fn model_config(
        &self,
        request: Request<ModelConfigRequest>,
    ) -> Answer<ModelConfigResponse> {
        let request = request.get_ref();
        let catalog = &self.inference.catalog;
        let version = catalog.find(&request.name, &request.version)?;
        Ok(Response::new(model_config(&version)))
    }

    async fn repository_index(
        &self,
        request: Request<RepositoryIndexRequest>,
    ) -> Answer<RepositoryIndexResponse> {
        let ready = repository::wanted_index(request.get_ref())?;
        let models = self.inference.catalog.models();
        Ok(Response::new(index(&models, ready)))
    }

    async fn repository_model_load(
        &self,
        request: Request<RepositoryModelLoadRequest>,
    ) -> Answer<RepositoryModelLoadResponse> {
        let publisher = self.publisher(&request)?;
        let (model, version) = repository::wanted(request.get_ref())?;
        to_the_end(publisher.load(model, version)).await?;
        Ok(Response::new(RepositoryModelLoadResponse {}))
    }

    async fn repository_model_unload(
        &self,
        request: Request<RepositoryModelUnloadRequest>,
    ) -> Answer<RepositoryModelUnloadResponse> {
        let publisher = self.publisher(&request)?;
        let model = repository::unwanted(request.get_ref())?;
        to_the_end(publisher.unload(model)).await?;
        Ok(Response::new(RepositoryModelUnloadResponse {}))
    }

    async fn model_statistics(
        &self,
        request: Request<ModelStatisticsRequest>,
    ) -> Answer<ModelStatisticsResponse> {
        let statistics = statistics(&self.inference.catalog, request.get_ref())?;
        Ok(Response::new(statistics))
    }
}

/// What the server says of itself.
pub(crate) fn server_metadata() -> ServerMetadataResponse {
    ServerMetadataResponse {
        name: "retort".to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        extensions: EXTENSIONS.map(str::to_owned).to_vec(),
    }
}

/// What the versions that `request` names have done; empty names stand for all.
///
/// # Errors
/// Where there is no such model or version.
pub(crate) fn statistics(
    catalog: &Catalog,
    request: &ModelStatisticsRequest,
) -> Result<ModelStatisticsResponse, InferenceError> {
    let models = catalog.models();
    if !request.name.is_empty() {
        let served = models.get(request.name.as_str());
        let served = served.ok_or_else(|| no_such_model(&request.name))?;
        let known = served
            .statistics
            .keys()
            .any(|v| v.to_string() == request.version);
        if !request.version.is_empty() && !known {
            return Err(no_such_version(&request.name, served, &request.version));
        }
    }
    let wanted = |wanted: &str, value: &str| wanted.is_empty() || wanted == value;
    let model_stats = models
        .iter()
        .filter(|(name, _)| wanted(&request.name, name.as_str()))
        .flat_map(|(name, served)| {
            let versions = served.statistics.iter();
            versions.map(|(version, statistics)| {
                let message = statistics.totals().to_message(name.as_str(), *version);
                let loaded = served.loaded.get(version);
                ModelStatistics {
                    memory_usage: loaded
                        .map(|loaded| memory_usage(loaded))
                        .into_iter()
                        .collect(),
                    ..message
                }
            })
        })
        .filter(|statistics| wanted(&request.version, &statistics.version))
        .collect();
    Ok(ModelStatisticsResponse { model_stats })
}

fn memory_usage(loaded: &LoadedVersion) -> MemoryUsage {
    MemoryUsage {
        r#type: CPU.to_owned(),
        id: 0,
        byte_size: loaded.memory_bytes,
    }
}

#[cfg(test)]
mod tests;
