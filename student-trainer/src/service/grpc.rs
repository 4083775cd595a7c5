//! The gRPC edge: `retort.runs.v1.RunService`.

use std::{
    pin::Pin,
    sync::{Arc, OnceLock},
};

use futures::{Stream, StreamExt};
use proto::runs::v1::{
    CancelRunRequest, CancelRunResponse, GetRunRequest, GetRunResponse, ListRunsRequest,
    ListRunsResponse, ResumeRunRequest, ResumeRunResponse, SubmitRunRequest, SubmitRunResponse,
    WatchRunRequest, WatchRunResponse, run_service_server::RunService,
};
use server::security::Refusal;
use tokio::task;
use tonic::{Request, Response, Status};
use traces::Scope;

use super::{error::RequestError, queue::RunQueue, run_id::RunId};
use crate::{
    config::{AllowedFolders, RunConfig},
    engine,
};

/// Name of a run that was submitted without one.
const DEFAULT_NAME: &str = "run";

/// Serves calls from the queue.
pub(super) struct RunServer {
    /// Empty until the queue was read.
    queue: Arc<OnceLock<Arc<RunQueue>>>,
    allowed_folders: AllowedFolders,
}

impl RunServer {
    /// Rejects runs with files outside `allowed_folders`. Until `queue` is set, calls get UNAVAILABLE.
    pub(super) fn new(
        queue: Arc<OnceLock<Arc<RunQueue>>>,
        allowed_folders: AllowedFolders,
    ) -> Self {
        Self {
            queue,
            allowed_folders,
        }
    }

    fn queue(&self) -> Result<&Arc<RunQueue>, Status> {
        let queue = self.queue.get();
        queue.ok_or_else(|| Refusal::Starting.into_status())
    }

    /// Uses the queue outside the runtime's threads: `work` may wait for a disk or a bucket, or for a call that does.
    async fn with_queue<T: Send + 'static>(
        &self,
        work: impl FnOnce(&RunQueue) -> Result<T, RequestError> + Send + 'static,
    ) -> Result<T, Status> {
        let queue = Arc::clone(self.queue()?);
        let scope = Scope::current();
        let work = move || -> Result<T, Status> {
            let _entered = scope.enter();
            Ok(work(&queue)?)
        };
        match task::spawn_blocking(work).await {
            Ok(done) => done,
            // The task is never aborted, so it panicked: continue the panic here.
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        }
    }
}

/// Reads the configuration of a submitted run, and checks the files and the device that it names.
fn read(
    config_toml: &str,
    overrides: &[String],
    allowed_folders: &AllowedFolders,
) -> Result<RunConfig, RequestError> {
    let config = RunConfig::from_submitted(config_toml, overrides)?;
    allowed_folders.check(&config)?;
    config.check_credentials()?;
    engine::resolve_device(config.device)?;
    Ok(config)
}

#[tonic::async_trait]
impl RunService for RunServer {
    async fn submit_run(
        &self,
        request: Request<SubmitRunRequest>,
    ) -> Result<Response<SubmitRunResponse>, Status> {
        let SubmitRunRequest {
            name,
            config_toml,
            overrides,
        } = request.into_inner();
        let name = match name.as_str() {
            "" => DEFAULT_NAME.to_owned(),
            _ => name,
        };
        let allowed_folders = self.allowed_folders.clone();
        let run = self.with_queue(move |queue| {
            let config = read(&config_toml, &overrides, &allowed_folders)?;
            // The resolved configuration: new defaults of a later version do not change a queued run.
            let run = queue.submit(&name, config.to_toml())?;
            Ok(run.to_proto())
        });
        let run = Some(run.await?);
        Ok(Response::new(SubmitRunResponse { run }))
    }

    type WatchRunStream = Pin<Box<dyn Stream<Item = Result<WatchRunResponse, Status>> + Send>>;

    async fn watch_run(
        &self,
        request: Request<WatchRunRequest>,
    ) -> Result<Response<Self::WatchRunStream>, Status> {
        let id = RunId::new(request.into_inner().run_id);
        let run = self.with_queue(move |queue| queue.get(&id)).await?;
        let events = run.follow().map(|event| {
            let event = Some(event);
            Ok(WatchRunResponse { event })
        });
        Ok(Response::new(events.boxed()))
    }

    async fn cancel_run(
        &self,
        request: Request<CancelRunRequest>,
    ) -> Result<Response<CancelRunResponse>, Status> {
        let id = RunId::new(request.into_inner().run_id);
        let run = self.with_queue(move |queue| Ok(queue.cancel(&id)?.to_proto()));
        let run = Some(run.await?);
        Ok(Response::new(CancelRunResponse { run }))
    }

    async fn resume_run(
        &self,
        request: Request<ResumeRunRequest>,
    ) -> Result<Response<ResumeRunResponse>, Status> {
        let id = RunId::new(request.into_inner().run_id);
        let run = self.with_queue(move |queue| Ok(queue.resume(&id)?.to_proto()));
        let run = Some(run.await?);
        Ok(Response::new(ResumeRunResponse { run }))
    }

    async fn get_run(
        &self,
        request: Request<GetRunRequest>,
    ) -> Result<Response<GetRunResponse>, Status> {
        let id = RunId::new(request.into_inner().run_id);
        let run = self.with_queue(move |queue| Ok(queue.get(&id)?.to_proto()));
        let run = Some(run.await?);
        Ok(Response::new(GetRunResponse { run }))
    }

    async fn list_runs(
        &self,
        _request: Request<ListRunsRequest>,
    ) -> Result<Response<ListRunsResponse>, Status> {
        let runs = self.with_queue(|queue| {
            let runs = queue.list();
            Ok(runs.iter().map(|run| run.to_proto()).collect::<Vec<_>>())
        });
        let runs = runs.await?;
        Ok(Response::new(ListRunsResponse { runs }))
    }
}
