//! One address: connects, checks, streams, and comes back after a loss.

use std::{collections::BTreeSet, net::SocketAddr, sync::Arc, time::Duration};

use tokio::{sync::watch, time::sleep};

use crate::{
    back_off::BackOff,
    candidate::Candidate,
    connection_end::Ended,
    place::{Place, Standing},
    shared::Shared,
    stream,
};

/// How often a spare address is asked who is there: another teacher may have been started.
const SPARE_INTERVAL: Duration = Duration::from_secs(10);

/// One address at which a teacher is, or would be.
pub(crate) struct Member {
    pub place: Place,
    pub address: SocketAddr,
    /// Addresses that the endpoints stand for now.
    pub wanted: watch::Receiver<BTreeSet<SocketAddr>>,
    pub shared: Arc<Shared>,
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
                Ended::Spare { instance, holder } => {
                    self.stand_by(&instance, holder).await;
                    continue;
                }
            };
            if self.is_wanted() {
                self.shared.roster.set(&self.place, standing);
                back_off.pause().await;
            }
        }
    }

    /// Waits until the process has no stream any more, or until it is time to ask who is there.
    async fn stand_by(&self, instance: &str, holder: Place) {
        self.shared.roster.set(&self.place, Standing::Spare(holder));
        tokio::select! {
            () = self.shared.instances.until_free(instance) => {}
            () = self.until_unwanted() => {}
            () = sleep(SPARE_INTERVAL) => {}
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
            .and_then(|()| reference.admits(&candidate, expected, config.numerics));
        if let Err(reason) = fits {
            return Ended::Unfit(reason);
        }
        let instance = candidate.instance.clone();
        let claim = self
            .shared
            .instances
            .claim(instance.as_deref(), &self.place);
        match (claim, instance) {
            (Err(holder), Some(instance)) => Ended::Spare { instance, holder },
            // Held as long as the stream.
            (_claim, _) => {
                let released = self.until_unwanted();
                stream::serve(candidate, &self.place, &self.shared, released, back_off).await
            }
        }
    }
}
