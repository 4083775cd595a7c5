//! `inference.GRPCInferenceService`: the Open Inference Protocol v2.

use std::{pin::Pin, sync::Arc};

use futures::{Stream, StreamExt};
use proto::inference::{
    ModelConfigRequest, ModelConfigResponse, ModelInferRequest, ModelInferResponse,
    ModelMetadataRequest, ModelMetadataResponse, ModelReadyRequest, ModelReadyResponse,
    ModelStatisticsRequest, ModelStatisticsResponse, ModelStreamInferResponse,
    RepositoryIndexRequest, RepositoryIndexResponse, RepositoryModelLoadRequest,
    RepositoryModelLoadResponse, RepositoryModelUnloadRequest, RepositoryModelUnloadResponse,
    ServerLiveRequest, ServerLiveResponse, ServerMetadataRequest, ServerMetadataResponse,
    ServerReadyRequest, ServerReadyResponse, grpc_inference_service_server::GrpcInferenceService,
};
use server::security::Caller as TokenHolder;
use tonic::{Request, Response, Status, Streaming};

use super::{
    error::{self, GrpcError},
    messages::{self, Caller, metadata},
    model_config, repository, statistics,
};
use crate::{
    config::ModelControl,
    inference::Inference,
    model_parameters::MAX_CLASS_NAMES_BYTES,
    publisher::{Publisher, run_to_completion},
};

/// Concurrent requests of one stream; further requests are not read.
const IN_FLIGHT_PER_STREAM: usize = 64;

/// The supported extensions of the protocol, in Triton's names.
const EXTENSIONS: [&str; 3] = ["model_configuration", "model_repository", "statistics"];

/// Implements the protocol's calls.
#[derive(Debug)]
pub(crate) struct InferenceEdge {
    pub(crate) inference: Arc<Inference>,
    /// Loads and unloads models.
    pub(crate) publisher: Arc<Publisher>,
    /// Limit on messages, which class names must fit into.
    pub(crate) max_message_bytes: usize,
    /// Which callers may load and unload models at this port.
    pub(crate) model_control: ModelControl,
}

type Answer<T> = Result<Response<T>, Status>;

impl InferenceEdge {
    /// The publisher, if the caller of `request` may load and unload models.
    fn publisher<T>(&self, request: &Request<T>) -> Result<Arc<Publisher>, Status> {
        let has_token = || {
            let caller = request.extensions().get::<TokenHolder>();
            caller.is_some_and(|caller| caller.0.is_some())
        };
        let allowed = match self.model_control {
            ModelControl::EveryCaller => true,
            // The port's rules admit only tokens with the scope.
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
            .buffered(IN_FLIGHT_PER_STREAM);
        Ok(Response::new(Box::pin(answers)))
    }

    async fn model_config(
        &self,
        request: Request<ModelConfigRequest>,
    ) -> Answer<ModelConfigResponse> {
        let request = request.get_ref();
        let catalog = &self.inference.catalog;
        let version = catalog.find(&request.name, &request.version)?;
        let limit = MAX_CLASS_NAMES_BYTES.min(self.max_message_bytes / 2);
        Ok(Response::new(model_config::to_message(&version, limit)))
    }

    async fn repository_index(
        &self,
        request: Request<RepositoryIndexRequest>,
    ) -> Answer<RepositoryIndexResponse> {
        let ready = repository::index_filter(request.get_ref())?;
        let models = self.inference.catalog.models();
        Ok(Response::new(repository::index(&models, ready)))
    }

    async fn repository_model_load(
        &self,
        request: Request<RepositoryModelLoadRequest>,
    ) -> Answer<RepositoryModelLoadResponse> {
        let publisher = self.publisher(&request)?;
        let (model, version) = repository::model_to_load(request.get_ref())?;
        run_to_completion(publisher.load(model, version)).await?;
        Ok(Response::new(RepositoryModelLoadResponse {}))
    }

    async fn repository_model_unload(
        &self,
        request: Request<RepositoryModelUnloadRequest>,
    ) -> Answer<RepositoryModelUnloadResponse> {
        let publisher = self.publisher(&request)?;
        let model = repository::model_to_unload(request.get_ref())?;
        run_to_completion(publisher.unload(model)).await?;
        Ok(Response::new(RepositoryModelUnloadResponse {}))
    }

    async fn model_statistics(
        &self,
        request: Request<ModelStatisticsRequest>,
    ) -> Answer<ModelStatisticsResponse> {
        let statistics = statistics::statistics(&self.inference.catalog, request.get_ref())?;
        Ok(Response::new(statistics))
    }
}

/// Name, version and extensions of the server.
pub(crate) fn server_metadata() -> ServerMetadataResponse {
    ServerMetadataResponse {
        name: "retort".to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        extensions: EXTENSIONS.map(str::to_owned).to_vec(),
    }
}

#[cfg(test)]
mod tests;
