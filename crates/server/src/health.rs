//! The health service `grpc.health.v1`.
//!
//! A check of an unknown service gets NOT_FOUND; a watch begins with SERVICE_UNKNOWN and stays open
//! (<https://github.com/grpc/grpc-proto/blob/master/grpc/health/v1/health.proto>).

use std::pin::Pin;

use futures::{Stream, StreamExt, stream};
use tokio::sync::watch;
use tonic::{Request, Response, Status};
use tonic_health::pb::{
    HealthCheckRequest, HealthCheckResponse,
    health_check_response::ServingStatus,
    health_server::{Health as HealthCalls, HealthServer},
};

/// The health of a server, the same for all its services.
#[derive(Debug, Clone)]
pub struct Health(watch::Sender<State>);

#[derive(Debug, Clone, Copy)]
struct State {
    serves: bool,
    /// Whether watches end.
    ended: bool,
}

impl Health {
    /// Creates the health of a server that is not serving yet, and its health service. `services` are the known
    /// names, in addition to the empty one, which means the whole server.
    pub fn new(services: &'static [&'static str]) -> (Self, HealthServer<HealthService>) {
        let (sender, state) = watch::channel(State {
            serves: false,
            ended: false,
        });
        let service = HealthService { services, state };
        (Self(sender), HealthServer::new(service))
    }

    /// Sets whether the server is serving. After [`Self::end`] it never is.
    pub fn set_serving(&self, serves: bool) {
        self.0
            .send_modify(|state| state.serves = serves && !state.ended);
    }

    /// Reports NOT_SERVING from now on, and ends the watches after they have reported it.
    pub fn end(&self) {
        self.0.send_modify(|state| {
            *state = State {
                serves: false,
                ended: true,
            }
        });
    }
}

/// Answers health checks.
#[derive(Debug, Clone)]
pub struct HealthService {
    services: &'static [&'static str],
    state: watch::Receiver<State>,
}

impl HealthService {
    fn knows(&self, service: &str) -> bool {
        service.is_empty() || self.services.contains(&service)
    }
}

fn status(known: bool, state: State) -> ServingStatus {
    match (known, state.serves) {
        (false, _) => ServingStatus::ServiceUnknown,
        (true, true) => ServingStatus::Serving,
        (true, false) => ServingStatus::NotServing,
    }
}

fn response(status: ServingStatus) -> HealthCheckResponse {
    let status = status.into();
    HealthCheckResponse { status }
}

#[tonic::async_trait]
impl HealthCalls for HealthService {
    async fn check(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<HealthCheckResponse>, Status> {
        if !self.knows(&request.get_ref().service) {
            return Err(Status::not_found(
                "this server has no service with this name",
            ));
        }
        let status = status(true, *self.state.borrow());
        Ok(Response::new(response(status)))
    }

    type WatchStream = Pin<Box<dyn Stream<Item = Result<HealthCheckResponse, Status>> + Send>>;

    async fn watch(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let watch = Watch {
            known: self.knows(&request.get_ref().service),
            last_sent: None,
            state: self.state.clone(),
        };
        let statuses = stream::unfold(watch, Watch::next);
        Ok(Response::new(statuses.boxed()))
    }
}

/// One stream of statuses.
struct Watch {
    known: bool,
    last_sent: Option<ServingStatus>,
    state: watch::Receiver<State>,
}

impl Watch {
    /// The next status that differs from the one before.
    async fn next(mut self) -> Option<(Result<HealthCheckResponse, Status>, Self)> {
        loop {
            let state = *self.state.borrow_and_update();
            let status = status(self.known, state);
            if self.last_sent != Some(status) {
                self.last_sent = Some(status);
                return Some((Ok(response(status)), self));
            }
            if state.ended {
                return None;
            }
            self.state.changed().await.ok()?;
        }
    }
}

#[cfg(test)]
mod tests {
    use tonic::Code;

    use super::*;

    const SERVICES: [&str; 1] = ["a.Service"];

    fn ask(service: &str) -> Request<HealthCheckRequest> {
        Request::new(HealthCheckRequest {
            service: service.to_owned(),
        })
    }

    #[tokio::test]
    async fn checks_know_the_server_and_its_services() {
        let (health, _) = Health::new(&SERVICES);
        let service = HealthService {
            services: &SERVICES,
            state: health.0.subscribe(),
        };
        for serves in [false, true] {
            health.set_serving(serves);
            for name in ["", "a.Service"] {
                let answer = service.check(ask(name)).await.unwrap();
                let expected = status(true, *service.state.borrow());
                assert_eq!(answer.get_ref().status(), expected, "{name}");
                assert_eq!(expected == ServingStatus::Serving, serves);
            }
        }
        let unknown = service.check(ask("b.Service")).await.unwrap_err();
        assert_eq!(unknown.code(), Code::NotFound);
    }

    #[tokio::test]
    async fn watches_report_each_change_and_end_with_the_server() {
        use ServingStatus::{NotServing, ServiceUnknown, Serving};
        let (health, _) = Health::new(&SERVICES);
        let service = HealthService {
            services: &SERVICES,
            state: health.0.subscribe(),
        };
        for (name, expected) in [
            ("", &[NotServing, Serving, NotServing][..]),
            ("a.Service", &[NotServing, Serving, NotServing]),
            ("b.Service", &[ServiceUnknown]),
        ] {
            health.set_serving(false);
            let mut watch = service.watch(ask(name)).await.unwrap().into_inner();
            let mut said = vec![watch.next().await.unwrap().unwrap().status()];
            health.set_serving(true);
            if expected.len() > 1 {
                said.push(watch.next().await.unwrap().unwrap().status());
            } else {
                // The watch stays open.
                assert!(futures::poll!(watch.next()).is_pending(), "{name}");
            }
            health.end();
            while let Some(status) = watch.next().await {
                said.push(status.unwrap().status());
            }
            assert_eq!(said, expected, "{name}");
            health.0.send_modify(|state| state.ended = false);
        }
    }
}
