//! `retort.publish.v1.PublisherService`: the publisher's gRPC edge.

use std::sync::Arc;

use artifacts::model_store::ModelName;
use proto::publish::v1::{
    ActivateVersionRequest, ActivateVersionResponse, CheckPublishRequest, CheckPublishResponse,
    DeleteModelRequest, DeleteModelResponse, DeleteVersionRequest, DeleteVersionResponse,
    ListVersionsRequest, ListVersionsResponse, ModelVersion, PublishRequest, PublishResponse,
    publisher_service_server::PublisherService,
};
use tokio::sync::Semaphore;
use tonic::{Request, Response, Status, Streaming};

use super::{ListedVersion, Publisher, upload};
use crate::error::PublishError;

/// Uploads that are received at a time, each into memory; more wait, unread.
const UPLOADS: usize = 4;

/// Answers the calls.
#[derive(Debug)]
pub(crate) struct PublisherEdge {
    publisher: Arc<Publisher>,
    uploads: Semaphore,
}

impl PublisherEdge {
    pub(crate) fn new(publisher: Arc<Publisher>) -> Self {
        let uploads = Semaphore::new(UPLOADS);
        Self { publisher, uploads }
    }
}

type Answer<T> = Result<Response<T>, Status>;

#[tonic::async_trait]
impl PublisherService for PublisherEdge {
    async fn publish(
        &self,
        request: Request<Streaming<PublishRequest>>,
    ) -> Answer<PublishResponse> {
        // Holds: nothing closes the semaphore.
        let _place = self.uploads.acquire().await;
        let upload = upload::receive(request.into_inner(), &self.publisher.config.publish).await?;
        let warnings = self
            .publisher
            .warnings(&upload.model, &upload.manifest)
            .await;
        let published = to_the_end(Arc::clone(&self.publisher).publish(upload)).await?;
        Ok(Response::new(PublishResponse {
            version: published.version,
            already_published: published.already_published,
            warnings,
            active_version: published.serving,
        }))
    }

    async fn check_publish(
        &self,
        request: Request<Streaming<CheckPublishRequest>>,
    ) -> Answer<CheckPublishResponse> {
        // Holds: nothing closes the semaphore.
        let _place = self.uploads.acquire().await;
        let limits = &self.publisher.config.publish;
        let upload = upload::receive_to_check(request.into_inner(), limits).await?;
        let warnings = self
            .publisher
            .warnings(&upload.model, &upload.manifest)
            .await;
        self.publisher.check(upload).await?;
        Ok(Response::new(CheckPublishResponse { warnings }))
    }

    async fn list_versions(
        &self,
        request: Request<ListVersionsRequest>,
    ) -> Answer<ListVersionsResponse> {
        let ListVersionsRequest {
            model_name: name,
            version,
            omit_manifests,
        } = request.into_inner();
        let model = match name.is_empty() {
            true => None,
            false => Some(model_name(&name)?),
        };
        let version = Some(version).filter(|version| *version > 0);
        let listed = Arc::clone(&self.publisher).list(model, version).await?;
        let messages = listed
            .into_iter()
            .map(|listed| to_message(listed, !omit_manifests));
        let versions = messages.collect();
        Ok(Response::new(ListVersionsResponse { versions }))
    }

    async fn activate_version(
        &self,
        request: Request<ActivateVersionRequest>,
    ) -> Answer<ActivateVersionResponse> {
        let request = request.into_inner();
        let model = model_name(&request.model_name)?;
        let publisher = Arc::clone(&self.publisher);
        let previous_version = to_the_end(publisher.activate(model, request.version)).await?;
        Ok(Response::new(ActivateVersionResponse { previous_version }))
    }

    async fn delete_version(
        &self,
        request: Request<DeleteVersionRequest>,
    ) -> Answer<DeleteVersionResponse> {
        let request = request.into_inner();
        let model = model_name(&request.model_name)?;
        let publisher = Arc::clone(&self.publisher);
        to_the_end(publisher.delete(model, request.version)).await?;
        Ok(Response::new(DeleteVersionResponse {}))
    }

    async fn delete_model(
        &self,
        request: Request<DeleteModelRequest>,
    ) -> Answer<DeleteModelResponse> {
        let model = model_name(&request.get_ref().model_name)?;
        let publisher = Arc::clone(&self.publisher);
        let versions = to_the_end(publisher.delete_model(model)).await?;
        Ok(Response::new(DeleteModelResponse { versions }))
    }
}

/// Carries a change out, also when its caller hangs up in the middle.
pub(crate) async fn to_the_end<T: Send + 'static>(
    change: impl Future<Output = Result<T, PublishError>> + Send + 'static,
) -> Result<T, PublishError> {
    let done = tokio::spawn(change).await;
    done.map_err(|_| PublishError::Internal)?
}

fn model_name(name: &str) -> Result<ModelName, PublishError> {
    Ok(ModelName::new(name)?)
}

fn to_message(listed: ListedVersion, with_manifest: bool) -> ModelVersion {
    let mut message = ModelVersion {
        model_name: listed.model.to_string(),
        version: listed.stored.version,
        active: listed.active,
        state: listed.state.name().to_owned(),
        reason: listed.state.reason(),
        ..ModelVersion::default()
    };
    match listed.stored.manifest {
        None => message.damaged = true,
        Some(manifest) => {
            message.sha256 = manifest.onnx.sha256.to_string();
            message.size = manifest.onnx.size;
            if with_manifest {
                message.manifest_json = manifest.to_json().into();
            }
        }
    }
    message
}
