//! Calls to a trainer's run service.

use std::{future::Future, time::Duration};

use common::security::client::Channel;
use proto::runs::v1::{
    CancelRunRequest, GetRunRequest, ListRunsRequest, Run, SubmitRunRequest, WatchRunRequest,
    run_service_client::RunServiceClient, watch_run_response::Event,
};
use tokio::time;
use tonic::{Request, Response, Status};

use crate::{CliError, client::Remote, run_config::RunConfigText};

/// A unary call that takes longer has failed.
const DEADLINE: Duration = Duration::from_secs(30);

/// A trainer that answered.
pub(crate) struct RunClient {
    remote: Remote,
    client: RunServiceClient<Channel>,
}

/// Is told what happens to a run.
pub(crate) trait Observer: Send {
    /// One event, in order.
    fn observe(&mut self, event: &Event);
}

impl RunClient {
    pub(crate) async fn connect(remote: Remote) -> Result<Self, CliError> {
        let client = RunServiceClient::new(remote.connect().await?);
        Ok(Self { remote, client })
    }

    /// Queues a run; the answer names its folder.
    pub(crate) async fn submit(&self, name: &str, config: &RunConfigText) -> Result<Run, CliError> {
        let mut client = self.client.clone();
        let request = SubmitRunRequest {
            name: name.to_owned(),
            config_toml: config.to_toml(),
        };
        self.ask(client.submit_run(with_deadline(request)), |answer| {
            answer.run
        })
        .await
    }

    pub(crate) async fn get(&self, run_id: &str) -> Result<Run, CliError> {
        let mut client = self.client.clone();
        let run_id = run_id.to_owned();
        let call = client.get_run(with_deadline(GetRunRequest { run_id }));
        self.ask(call, |answer| answer.run).await
    }

    pub(crate) async fn cancel(&self, run_id: &str) -> Result<Run, CliError> {
        let mut client = self.client.clone();
        let run_id = run_id.to_owned();
        let call = client.cancel_run(with_deadline(CancelRunRequest { run_id }));
        self.ask(call, |answer| answer.run).await
    }

    pub(crate) async fn list(&self) -> Result<Vec<Run>, CliError> {
        let mut client = self.client.clone();
        let call = client.list_runs(with_deadline(ListRunsRequest {}));
        self.ask(call, |answer| Some(answer.runs)).await
    }

    async fn ask<A, T>(
        &self,
        call: impl Future<Output = Result<Response<A>, Status>>,
        part: impl FnOnce(A) -> Option<T>,
    ) -> Result<T, CliError> {
        let answer = call.await.map_err(self.remote.refused())?.into_inner();
        part(answer).ok_or_else(|| self.remote.misunderstood("the run is missing"))
    }
}

/// Passes every event of a run, from its beginning, to the observers; the run as it ended.
pub(crate) async fn watch(
    trainer: &RunClient,
    run_id: &str,
    observers: &mut [&mut dyn Observer],
) -> Result<Run, CliError> {
    let mut client = trainer.client.clone();
    let run_id = run_id.to_owned();
    let call = client.watch_run(WatchRunRequest { run_id });
    let mut events = time::timeout(DEADLINE, call)
        .await
        .unwrap_or_else(|_| Err(Status::deadline_exceeded("no answer to WatchRun")))
        .map_err(trainer.remote.refused())?
        .into_inner();
    let mut last = None;
    while let Some(response) = events.message().await.map_err(trainer.remote.refused())? {
        let Some(event) = response.event else {
            continue; // An event of a newer trainer.
        };
        for observer in observers.iter_mut() {
            observer.observe(&event);
        }
        if let Event::StateChanged(run) = event {
            last = Some(run);
        }
    }
    last.ok_or_else(|| {
        trainer
            .remote
            .misunderstood("the run's events lack its state")
    })
}

fn with_deadline<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(DEADLINE);
    request
}
