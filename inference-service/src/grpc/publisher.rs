//! `retort.publish.v1.PublisherService`: publishes models and manages their versions.

use std::sync::Arc;

use artifacts::model_store::ModelName;
use proto::publish::v1::{
    ActivateVersionRequest, ActivateVersionResponse, CheckPublishRequest, CheckPublishResponse,
    DeleteModelRequest, DeleteModelResponse, DeleteVersionRequest, DeleteVersionResponse,
    ListVersionsRequest, ListVersionsResponse, ModelVersion, PublishRequest, PublishResponse,
    Trial as TrialMessage, TrialState, publisher_service_server::PublisherService,
};
use tokio::sync::Semaphore;
use tonic::{Request, Response, Status, Streaming};

use super::upload;
use crate::{
    canary::{Outcome, Trial},
    error::PublishError,
    publisher::{ListedVersion, Publisher, Upload, run_to_completion},
};

/// Concurrent uploads, each received into memory; further uploads wait and are not read.
const UPLOADS: usize = 4;

/// Implements the calls.
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

    async fn warnings(&self, upload: &Upload) -> Vec<String> {
        let warnings = self.publisher.warnings(&upload.model, &upload.manifest);
        warnings.await
    }
}

type Answer<T> = Result<Response<T>, Status>;

#[tonic::async_trait]
impl PublisherService for PublisherEdge {
    async fn publish(
        &self,
        request: Request<Streaming<PublishRequest>>,
    ) -> Answer<PublishResponse> {
        // Cannot fail: nothing closes the semaphore.
        let _permit = self.uploads.acquire().await;
        let limits = self.publisher.limits();
        let upload = upload::receive(request.into_inner(), limits).await?;
        let warnings = self.warnings(&upload).await;
        let published = run_to_completion(Arc::clone(&self.publisher).publish(upload)).await?;
        Ok(Response::new(PublishResponse {
            version: published.version,
            already_published: published.already_published,
            warnings,
            active_version: published.serving,
            canary: published.is_canary,
        }))
    }

    async fn check_publish(
        &self,
        request: Request<Streaming<CheckPublishRequest>>,
    ) -> Answer<CheckPublishResponse> {
        // Cannot fail: nothing closes the semaphore.
        let _permit = self.uploads.acquire().await;
        let limits = self.publisher.limits();
        let upload = upload::receive_to_check(request.into_inner(), limits).await?;
        let warnings = self.warnings(&upload).await;
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
        let model = if name.is_empty() {
            None
        } else {
            Some(model_name(&name)?)
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
        let previous_version =
            run_to_completion(publisher.activate(model, request.version)).await?;
        Ok(Response::new(ActivateVersionResponse { previous_version }))
    }

    async fn delete_version(
        &self,
        request: Request<DeleteVersionRequest>,
    ) -> Answer<DeleteVersionResponse> {
        let request = request.into_inner();
        let model = model_name(&request.model_name)?;
        let publisher = Arc::clone(&self.publisher);
        run_to_completion(publisher.delete(model, request.version)).await?;
        Ok(Response::new(DeleteVersionResponse {}))
    }

    async fn delete_model(
        &self,
        request: Request<DeleteModelRequest>,
    ) -> Answer<DeleteModelResponse> {
        let model = model_name(&request.get_ref().model_name)?;
        let publisher = Arc::clone(&self.publisher);
        let versions = run_to_completion(publisher.delete_model(model)).await?;
        Ok(Response::new(DeleteModelResponse { versions }))
    }
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
        trial: listed.trial.map(|trial| trial_to_message(&trial)),
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

fn trial_to_message(trial: &Trial) -> TrialMessage {
    let report = trial.report();
    let (state, reason) = match report.ended {
        None => (TrialState::Running, String::new()),
        Some((outcome, reason)) => {
            let state = match outcome {
                Outcome::Promoted => TrialState::Promoted,
                Outcome::RolledBack => TrialState::RolledBack,
                Outcome::Withdrawn => TrialState::Withdrawn,
            };
            (state, reason)
        }
    };
    TrialMessage {
        state: state.into(),
        active_version: trial.active,
        share: trial.share,
        canary_requests: report.canary_requests,
        active_requests: report.active_requests,
        compared_samples: report.compared,
        agreeing_samples: report.agreeing,
        reason,
    }
}
