//! The first teacher: the one whose identity all others must share.

use common::soft_targets::Encoding;
use futures::future::join_all;
use tokio::time::Instant;

use super::{
    ExpectedTeacher, PoolError,
    back_off::BackOff,
    candidate::{Candidate, Reference},
    discovery::Directory,
    roster::{Roster, Standing},
};
use crate::config::PoolConfig;

/// Asks all endpoints at once, until one that fits answers: of those, the first in the configured
/// order, so that the choice does not hang on which answer came first.
///
/// # Errors
/// [`PoolError::NoTeacher`] after the configured time, [`PoolError::AllRefused`] as soon as every
/// endpoint answers and none fits.
pub(super) async fn elect(
    directory: &mut Directory,
    roster: &Roster,
    config: &PoolConfig,
    expected: ExpectedTeacher,
) -> Result<Reference, PoolError> {
    let seconds = config.wait_timeout_seconds;
    let deadline = Instant::now() + config.wait_timeout();
    let credentials = config.credentials();
    let mut back_off = BackOff::default();
    loop {
        let found = directory.look_up(roster).await;
        let asked = found.into_iter().map(async |(place, address)| {
            let met = Candidate::meet(&place, address, &credentials).await;
            (place, met)
        });
        for (place, met) in join_all(asked).await {
            match judge(met, expected, config.encoding) {
                Ok(candidate) => {
                    return Ok(Reference {
                        place,
                        identity: candidate.identity,
                    });
                }
                Err(standing) => roster.set(&place, standing),
            }
        }
        let teachers = roster.describe();
        if roster.all_refused() {
            return Err(PoolError::AllRefused { teachers });
        }
        if Instant::now() >= deadline {
            return Err(PoolError::NoTeacher { seconds, teachers });
        }
        back_off.pause().await;
    }
}

fn judge(
    met: Result<Candidate, String>,
    expected: ExpectedTeacher,
    encoding: Encoding,
) -> Result<Candidate, Standing> {
    let candidate = met.map_err(Standing::Away)?;
    candidate
        .fits(expected, encoding)
        .map_err(Standing::Refused)?;
    Ok(candidate)
}
