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

/// A unary call that takes longer has failed.
const DEADLINE: Duration = Duration::from_secs(30);

/// A trainer that is away for longer will not come back: time enough for a machine to start anew.
const RETURNS_WITHIN: Duration = Duration::from_secs(600);

/// Bounds of the pauses between attempts to watch a run again.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// A trainer that answered.
pub(crate) struct RunClient {
    remote: Remote,
    client: RunServiceClient<Channel>,
}

/// Receives the events of a run.
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
        part(answer).ok_or_else(|| self.remote.misunderstood("the run is missing"))
    }
}

/// Passes every event of a run, from its beginning, to the observers; the run as it ended.
///
/// Where the trainer goes away meanwhile, waits for it to come back: a run survives its trainer.
pub(crate) async fn watch(
    trainer: &RunClient,
    run_id: &str,
    observers: &mut [&mut dyn Observer],
) -> Result<Run, CliError> {
    let mut audience = Audience {
        dedup: EventDedup::default(),
        observers,
    };
    let watched = follow(trainer, run_id, &mut audience).await;
    let mut watched = watched.map_err(trainer.remote.refused())?;
    loop {
        let reason = match watched {
            Watched::Ended(run) => return Ok(run),
            Watched::Interrupted(reason) => reason,
        };
        let minutes = RETURNS_WITHIN.as_secs() / 60;
        audience.tell(&Event::Notice(Notice {
            text: format!("the trainer is away ({reason}); waiting for it, at most {minutes} min"),
        }));
        audience.dedup.reconnected();
        watched = come_back(trainer, run_id, &mut audience).await?;
    }
}

/// Observers, and what they know.
struct Audience<'a, 'o> {
    dedup: EventDedup,
    observers: &'a mut [&'o mut dyn Observer],
}

impl Audience<'_, '_> {
    fn tell(&mut self, event: &Event) {
        if self.dedup.is_new(event) {
            for observer in self.observers.iter_mut() {
                observer.observe(event);
            }
        }
    }
}

/// How the watching of a run ended.
enum Watched {
    /// As the run did.
    Ended(Run),
    /// Before the run; why, for people.
    Interrupted(String),
}

/// Watches once.
async fn follow(
    trainer: &RunClient,
    run_id: &str,
    audience: &mut Audience<'_, '_>,
) -> Result<Watched, Status> {
    let mut client = trainer.client.clone();
    let run_id = run_id.to_owned();
    let call = client.watch_run(WatchRunRequest { run_id });
    let mut events = time::timeout(DEADLINE, call)
        .await
        .unwrap_or_else(|_| Err(Status::deadline_exceeded("no answer to WatchRun")))?
        .into_inner();
    let mut reason = "it ended the connection".to_owned();
    loop {
        let event = match events.message().await {
            Ok(Some(response)) => response.event,
            Ok(None) => return Ok(Watched::Interrupted(reason)),
            Err(status) => return Ok(Watched::Interrupted(status.message().to_owned())),
        };
        let Some(event) = event else {
            continue; // An event of a newer trainer.
        };
        audience.tell(&event);
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

/// Watches again as soon as the trainer answers.
async fn come_back(
    trainer: &RunClient,
    run_id: &str,
    audience: &mut Audience<'_, '_>,
) -> Result<Watched, CliError> {
    let deadline = Instant::now() + RETURNS_WITHIN;
    let mut back_off = BackOff::new(FIRST_PAUSE, LONGEST_PAUSE);
    loop {
        back_off.pause().await;
        match follow(trainer, run_id, audience).await {
            Ok(watched) => return Ok(watched),
            Err(status) if is_away(&status) && Instant::now() < deadline => {}
            Err(status) => return Err(trainer.remote.refused()(status)),
        }
    }
}

/// Whether nobody answered, rather than somebody with a refusal.
fn is_away(status: &Status) -> bool {
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
