//! One address: connects, checks, streams, and comes back after a loss.

use std::{collections::BTreeSet, net::SocketAddr, sync::Arc};

use tokio::sync::watch;

use super::{
    Shared,
    back_off::BackOff,
    candidate::Candidate,
    roster::{Place, Standing},
    stream,
};

/// One address at which a teacher is, or would be.
pub(super) struct Member {
    pub place: Place,
    pub address: SocketAddr,
    /// Addresses that the endpoints stand for now.
    pub wanted: watch::Receiver<BTreeSet<SocketAddr>>,
    pub shared: Arc<Shared>,
}

/// How a connection ended.
pub(super) enum Ended {
    /// Nobody there, or lost: worth another attempt.
    Lost(String),
    /// It got no more, and answered what it had.
    Finished(Standing),
    /// Not the teacher that the run uses. Another may be started there: worth another attempt.
    Unfit(String),
    /// It does not keep to the contract: never again in this run.
    Misbehaved(String),
}

impl Member {
    /// Streams until the pool is closed or no endpoint stands for the address any more.
    pub async fn run(self) {
        let closed = self.shared.closed.clone();
        if closed
            .run_until_cancelled(self.stay_connected())
            .await
            .is_some()
        {
            self.shared.roster.leave(&self.place);
        }
    }

    async fn stay_connected(&self) {
        let mut back_off = BackOff::default();
        while self.is_wanted() {
            let standing = match self.connect(&mut back_off).await {
                Ended::Lost(reason) => Standing::Away(reason),
                Ended::Finished(standing) => standing,
                Ended::Unfit(reason) => Standing::Refused(reason),
                Ended::Misbehaved(reason) => {
                    self.shared
                        .roster
                        .set(&self.place, Standing::Refused(reason));
                    // Keeps the place, so that discovery does not connect to it anew.
                    return std::future::pending().await;
                }
            };
            if self.is_wanted() {
                self.shared.roster.set(&self.place, standing);
                back_off.pause().await;
            }
        }
    }

    fn is_wanted(&self) -> bool {
        self.wanted.borrow().contains(&self.address)
    }

    /// Waits until no endpoint stands for the address any more.
    async fn until_unwanted(&self) {
        let mut wanted = self.wanted.clone();
        // Discovery ends only when the pool is closed.
        let _ = wanted
            .wait_for(|wanted| !wanted.contains(&self.address))
            .await;
    }

    async fn connect(&self, back_off: &mut BackOff) -> Ended {
        let credentials = self.shared.config.credentials();
        let met = Candidate::meet(&self.place, self.address, &credentials).await;
        let candidate = match met {
            Ok(candidate) => candidate,
            Err(reason) => return Ended::Lost(reason),
        };
        let Shared {
            config,
            expected,
            reference,
            ..
        } = &*self.shared;
        let fits = candidate
            .fits(expected, config.encoding)
            .and_then(|()| reference.agrees(&candidate.identity, config.numerics));
        match fits {
            Ok(()) => {
                let released = self.until_unwanted();
                stream::serve(candidate, &self.place, &self.shared, released, back_off).await
            }
            Err(reason) => Ended::Unfit(reason),
        }
    }
}
