//! Calls to a trainer's run service.

use std::{
    future::Future,
    time::{Duration, Instant},
};

use proto::runs::v1::{
    CancelRunRequest, GetRunRequest, ListRunsRequest, Notice, ResumeRunRequest, Run, RunState,
    SubmitRunRequest, WatchRunRequest, run_service_client::RunServiceClient,
    watch_run_response::Event,
};
use server::{back_off::BackOff, security::client::Channel};
use tokio::time;
use tonic::{Code, Request, Response, Status};

use super::event_dedup::EventDedup;
use crate::{CliError, client::Remote, run_config::RunConfigText};

/// Time-out of a unary call.
const DEADLINE: Duration = Duration::from_secs(30);

/// How long to wait for a trainer that is unreachable: long enough for a machine to restart.
const RECONNECT_WITHIN: Duration = Duration::from_secs(600);

/// Bounds of the pauses between attempts to reconnect.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// A client of a trainer's run service.
pub(crate) struct RunClient {
    remote: Remote,
    client: RunServiceClient<Channel>,
}

/// Receives the events of a run.
pub(crate) trait Observer: Send {
    /// Receives the next event.
    fn observe(&mut self, event: &Event);
}

impl RunClient {
    pub(crate) async fn connect(remote: Remote) -> Result<Self, CliError> {
        let client = RunServiceClient::new(remote.connect().await?);
        Ok(Self { remote, client })
    }

    /// Submits a run. The returned run names its folder.
    pub(crate) async fn submit(&self, name: &str, config: &RunConfigText) -> Result<Run, CliError> {
        let mut client = self.client.clone();
        let request = SubmitRunRequest {
            name: name.to_owned(),
            config_toml: config.to_toml(),
            overrides: config.overrides().to_vec(),
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

    pub(crate) async fn resume(&self, run_id: &str) -> Result<Run, CliError> {
        let mut client = self.client.clone();
        let run_id = run_id.to_owned();
        let call = client.resume_run(with_deadline(ResumeRunRequest { run_id }));
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
        part(answer).ok_or_else(|| self.remote.invalid_answer("the run is missing"))
    }
}

/// Passes every event of a run, from the first one, to the observers, and returns the run when it has
/// ended.
///
/// Reconnects if the trainer becomes unreachable, because a run survives a restart of its trainer.
pub(crate) async fn watch(
    trainer: &RunClient,
    run_id: &str,
    observers: &mut [&mut dyn Observer],
) -> Result<Run, CliError> {
    let mut observers = Observers {
        dedup: EventDedup::default(),
        observers,
    };
    let watched = follow(trainer, run_id, &mut observers).await;
    let mut watched = watched.map_err(trainer.remote.refused())?;
    loop {
        let reason = match watched {
            Watched::Ended(run) => return Ok(run),
            Watched::Interrupted(reason) => reason,
        };
        let minutes = RECONNECT_WITHIN.as_secs() / 60;
        observers.notify(&Event::Notice(Notice {
            text: format!(
                "the trainer is unreachable ({reason}); waiting for it for up to {minutes} min"
            ),
        }));
        observers.dedup.reconnected();
        watched = reconnect(trainer, run_id, &mut observers).await?;
    }
}

/// The observers, and which events they have received.
struct Observers<'a, 'o> {
    dedup: EventDedup,
    observers: &'a mut [&'o mut dyn Observer],
}

impl Observers<'_, '_> {
    fn notify(&mut self, event: &Event) {
        if self.dedup.is_new(event) {
            for observer in self.observers.iter_mut() {
                observer.observe(event);
            }
        }
    }
}

/// How a stream of events ended.
enum Watched {
    /// The run ended.
    Ended(Run),
    /// The stream ended before the run, for this reason.
    Interrupted(String),
}

/// Receives events over one connection.
async fn follow(
    trainer: &RunClient,
    run_id: &str,
    observers: &mut Observers<'_, '_>,
) -> Result<Watched, Status> {
    let mut client = trainer.client.clone();
    let run_id = run_id.to_owned();
    let call = client.watch_run(WatchRunRequest { run_id });
    let mut events = time::timeout(DEADLINE, call)
        .await
        .unwrap_or_else(|_| Err(Status::deadline_exceeded("no answer to WatchRun")))?
        .into_inner();
    let mut reason = "it closed the connection".to_owned();
    loop {
        let event = match events.message().await {
            Ok(Some(response)) => response.event,
            Ok(None) => return Ok(Watched::Interrupted(reason)),
            Err(status) => return Ok(Watched::Interrupted(status.message().to_owned())),
        };
        let Some(event) = event else {
            continue; // An event of a newer trainer.
        };
        observers.notify(&event);
        if let Event::StateChanged(run) = event {
            match run.state() {
                RunState::Succeeded | RunState::Failed | RunState::Cancelled => {
                    return Ok(Watched::Ended(run));
                }
                RunState::Queued | RunState::Running | RunState::Unspecified => {}
            }
            if !run.reason.is_empty() {
                reason = run.reason;
            }
        }
    }
}

/// Receives events again as soon as the trainer answers.
async fn reconnect(
    trainer: &RunClient,
    run_id: &str,
    observers: &mut Observers<'_, '_>,
) -> Result<Watched, CliError> {
    let deadline = Instant::now() + RECONNECT_WITHIN;
    let mut back_off = BackOff::new(FIRST_PAUSE, LONGEST_PAUSE);
    loop {
        back_off.pause().await;
        match follow(trainer, run_id, observers).await {
            Ok(watched) => return Ok(watched),
            Err(status) if is_unreachable(&status) && Instant::now() < deadline => {}
            Err(status) => return Err(trainer.remote.refused()(status)),
        }
    }
}

/// Whether the call failed because the trainer was unreachable, and not because it rejected the call.
fn is_unreachable(status: &Status) -> bool {
    server::grpc::is_away(status)
        || matches!(
            status.code(),
            Code::Unknown | Code::Cancelled | Code::DeadlineExceeded
        )
}

fn with_deadline<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(DEADLINE);
    request
}
