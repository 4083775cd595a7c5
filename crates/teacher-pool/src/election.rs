//! The first teacher: the one whose identity all others must share.

use futures::future::join_all;
use tokio::time::Instant;

use crate::{
    back_off::BackOff,
    candidate::Candidate,
    config::PoolConfig,
    directory::Directory,
    error::PoolError,
    expected::ExpectedTeacher,
    place::Standing,
    reference::{Origin, Reference},
    roster::Roster,
};

/// Asks all endpoints at once, until one that fits answers: of those, the first in the configured
/// order, so that the choice does not hang on which answer came first. Where `expected` names the teacher,
/// only one that agrees with it fits, and it stays the reference.
///
/// # Errors
/// [`PoolError::NoTeacher`] after the configured time, [`PoolError::AllRefused`] as soon as every
/// endpoint answers and none fits.
pub(crate) async fn elect(
    directory: &mut Directory,
    roster: &Roster,
    config: &PoolConfig,
    expected: &ExpectedTeacher,
) -> Result<Reference, PoolError> {
    let before = expected.identity.clone().map(|identity| Reference {
        origin: Origin::Checkpoint,
        identity,
        class_names: None,
    });
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
            match judge(met, expected, before.as_ref(), config) {
                Ok(candidate) => {
                    let (origin, identity) = match before {
                        Some(before) => (before.origin, before.identity),
                        None => (Origin::Place(place), candidate.identity),
                    };
                    return Ok(Reference {
                        origin,
                        identity,
                        class_names: Some(candidate.class_names),
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
    expected: &ExpectedTeacher,
    before: Option<&Reference>,
    config: &PoolConfig,
) -> Result<Candidate, Standing> {
    let candidate = met.map_err(Standing::Away)?;
    candidate
        .fits(expected, config.encoding)
        .and_then(|()| match before {
            Some(before) => before.admits(&candidate, expected, config.numerics),
            None => Ok(()),
        })
        .map_err(Standing::Refused)?;
    Ok(candidate)
}
