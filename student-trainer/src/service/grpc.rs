//! The gRPC edge: `retort.runs.v1.RunService`.

use std::{pin::Pin, sync::Arc};

use futures::{Stream, StreamExt};
use proto::runs::v1::{
    CancelRunRequest, CancelRunResponse, GetRunRequest, GetRunResponse, ListRunsRequest,
    ListRunsResponse, SubmitRunRequest, SubmitRunResponse, WatchRunRequest, WatchRunResponse,
    run_service_server::RunService,
};
use tokio::runtime::Handle;
use tonic::{Request, Response, Status};

use super::{
    error::ServiceError,
    queue::{Job, RunQueue},
    record::RunId,
};
use crate::{
    config::{AllowedFolders, RunConfig},
    run,
};

/// Name of a run that was submitted without one.
const DEFAULT_NAME: &str = "run";

/// Answers calls from the queue.
pub(super) struct RunServer {
    queue: Arc<RunQueue>,
    runtime: Handle,
    allowed_folders: AllowedFolders,
}

impl RunServer {
    /// Runs do their network traffic in `runtime` and their files are below `allowed_folders`.
    pub(super) fn new(
        queue: Arc<RunQueue>,
        runtime: Handle,
        allowed_folders: AllowedFolders,
    ) -> Self {
        Self {
            queue,
            runtime,
            allowed_folders,
        }
    }

    fn read(&self, config_toml: &str) -> Result<RunConfig, ServiceError> {
        let config = RunConfig::from_toml(config_toml)?;
        self.allowed_folders.check(&config)?;
        config.check_credentials()?;
        Ok(config)
    }

    fn job(&self, config: RunConfig) -> Job {
        let runtime = self.runtime.clone();
        Box::new(move |folder, events, cancel| {
            run::execute(config, folder, &events, &cancel, &runtime)?;
            Ok(())
        })
    }
}

#[tonic::async_trait]
impl RunService for RunServer {
    async fn submit_run(
        &self,
        request: Request<SubmitRunRequest>,
    ) -> Result<Response<SubmitRunResponse>, Status> {
        let SubmitRunRequest { name, config_toml } = request.into_inner();
        let config = self.read(&config_toml)?;
        let name = match name.as_str() {
            "" => DEFAULT_NAME,
            name => name,
        };
        let record = self.queue.submit(name, self.job(config))?;
        let run = Some(record.to_proto());
        Ok(Response::new(SubmitRunResponse { run }))
    }

    type WatchRunStream = Pin<Box<dyn Stream<Item = Result<WatchRunResponse, Status>> + Send>>;

    async fn watch_run(
        &self,
        request: Request<WatchRunRequest>,
    ) -> Result<Response<Self::WatchRunStream>, Status> {
        let record = self.queue.get(&RunId::new(request.into_inner().run_id))?;
        let events = record.follow().map(|event| {
            let event = Some(event);
            Ok(WatchRunResponse { event })
        });
        Ok(Response::new(events.boxed()))
    }

    async fn cancel_run(
        &self,
        request: Request<CancelRunRequest>,
    ) -> Result<Response<CancelRunResponse>, Status> {
        let record = self
            .queue
            .cancel(&RunId::new(request.into_inner().run_id))?;
        let run = Some(record.to_proto());
        Ok(Response::new(CancelRunResponse { run }))
    }

    async fn get_run(
        &self,
        request: Request<GetRunRequest>,
    ) -> Result<Response<GetRunResponse>, Status> {
        let record = self.queue.get(&RunId::new(request.into_inner().run_id))?;
        let run = Some(record.to_proto());
        Ok(Response::new(GetRunResponse { run }))
    }

    async fn list_runs(
        &self,
        _request: Request<ListRunsRequest>,
    ) -> Result<Response<ListRunsResponse>, Status> {
        let runs = self.queue.list();
        let runs = runs.iter().map(|record| record.to_proto()).collect();
        Ok(Response::new(ListRunsResponse { runs }))
    }
}
