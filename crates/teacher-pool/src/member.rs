//! One member of the pool: connects to an address, checks the teacher, streams, and reconnects after a loss.

use std::{collections::BTreeSet, net::SocketAddr, sync::Arc, time::Duration};

use server::back_off::BackOff;
use tokio::{sync::watch, time::sleep};

use crate::{
    candidate::{Candidate, reconnect_back_off},
    connection_end::ConnectionEnd,
    shared::Shared,
    stream,
    teacher::{TeacherAddress, TeacherStatus},
};

/// How often a member checks which process answers at a duplicate address: another teacher may have been started there.
const DUPLICATE_CHECK_INTERVAL: Duration = Duration::from_secs(10);

/// One address at which a teacher may answer.
pub(crate) struct Member {
    pub teacher: TeacherAddress,
    pub address: SocketAddr,
    /// The addresses to which the endpoints resolve at present.
    pub listed: watch::Receiver<BTreeSet<SocketAddr>>,
    pub shared: Arc<Shared>,
}

impl Member {
    /// Runs until the pool is closed or no endpoint resolves to the address any more.
    pub async fn run(self) {
        let closed = self.shared.closed.clone();
        let stay_connected = closed.run_until_cancelled(self.stay_connected());
        if stay_connected.await.is_some() {
            self.shared.roster.report_left(&self.teacher);
        }
    }

    async fn stay_connected(&self) {
        let mut back_off = reconnect_back_off();
        while self.is_listed() {
            let status = match self.connect(&mut back_off).await {
                ConnectionEnd::Lost(reason) => TeacherStatus::Unavailable(reason),
                ConnectionEnd::Finished(status) => status,
                ConnectionEnd::Unsuitable(reason) => TeacherStatus::Refused(reason),
                ConnectionEnd::ProtocolViolation(reason) => {
                    let status = TeacherStatus::Refused(reason);
                    self.shared.roster.set(&self.teacher, status);
                    // The member stays, so that discovery does not start another one for the address.
                    return std::future::pending().await;
                }
                ConnectionEnd::Duplicate {
                    instance,
                    connected,
                } => {
                    let status = TeacherStatus::Duplicate(connected);
                    self.shared.roster.set(&self.teacher, status);
                    self.until_free(&instance).await;
                    continue;
                }
            };
            if self.is_listed() {
                self.shared.roster.set(&self.teacher, status);
                back_off.pause().await;
            }
        }
    }

    /// Waits until the process has no stream, or until it is time to check which process answers.
    async fn until_free(&self, instance: &str) {
        tokio::select! {
            () = self.shared.instances.until_free(instance) => {}
            () = self.until_removed() => {}
            () = sleep(DUPLICATE_CHECK_INTERVAL) => {}
        }
    }

    fn is_listed(&self) -> bool {
        self.listed.borrow().contains(&self.address)
    }

    /// Waits until no endpoint resolves to the address any more.
    async fn until_removed(&self) {
        let mut listed = self.listed.clone();
        // An error would mean that discovery has ended, and it ends only when the pool is closed.
        let _ = listed
            .wait_for(|listed| !listed.contains(&self.address))
            .await;
    }

    async fn connect(&self, back_off: &mut BackOff) -> ConnectionEnd {
        let Shared {
            config,
            expected,
            reference,
            interface,
            instances,
            ..
        } = &*self.shared;
        let credentials = config.credentials();
        let connected = Candidate::connect(&self.teacher, self.address, &credentials).await;
        let candidate = match connected {
            Ok(candidate) => candidate,
            Err(reason) => return ConnectionEnd::Lost(reason),
        };
        let accepted = candidate.check(expected, config.encoding).and_then(|own| {
            reference.accept(&candidate.identity, config.numerics)?;
            own.check_same(interface, expected)
        });
        if let Err(reason) = accepted {
            return ConnectionEnd::Unsuitable(reason);
        }
        let instance = candidate.instance.clone();
        let claim = instances.claim(instance.as_deref(), &self.teacher);
        match (claim, instance) {
            (Err(connected), Some(instance)) => ConnectionEnd::Duplicate {
                instance,
                connected,
            },
            // The claim lives as long as the stream.
            (_claim, _) => {
                let removed = self.until_removed();
                stream::run(candidate, &self.teacher, &self.shared, removed, back_off).await
            }
        }
    }
}
