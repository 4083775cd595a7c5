//! Finds the reference: the first teacher, whose identity all others must share.

use futures::future::join_all;
use tokio::time::Instant;

use crate::{
    candidate::{Candidate, reconnect_back_off},
    config::PoolConfig,
    directory::Directory,
    error::PoolError,
    expected::ExpectedTeacher,
    reference::{Origin, Reference},
    roster::Roster,
    teacher::TeacherStatus,
};

/// Asks all endpoints at once, until a teacher that fits answers. If several fit, the first in the configured order
/// becomes the reference, so the choice does not depend on which answer arrived first. If `expected` names an identity,
/// a teacher fits only if it agrees with that identity, which remains the reference.
///
/// # Errors
/// [`PoolError::NoTeacher`] after the configured time, [`PoolError::AllRefused`] as soon as every endpoint answers and
/// no teacher fits.
pub(crate) async fn find(
    directory: &mut Directory,
    roster: &Roster,
    config: &PoolConfig,
    expected: &ExpectedTeacher,
) -> Result<Reference, PoolError> {
    let from_checkpoint = expected.identity.clone().map(|identity| Reference {
        origin: Origin::Checkpoint,
        identity,
        class_names: None,
    });
    let deadline = Instant::now() + config.wait_timeout();
    let credentials = config.credentials();
    let mut back_off = reconnect_back_off();
    loop {
        let found = directory.look_up(roster).await;
        let connecting = found.into_iter().map(async |(teacher, address)| {
            let connected = Candidate::connect(&teacher, address, &credentials).await;
            (teacher, connected)
        });
        for (teacher, connected) in join_all(connecting).await {
            match check(connected, expected, from_checkpoint.as_ref(), config) {
                Ok(candidate) => {
                    let (origin, identity) = match from_checkpoint {
                        Some(reference) => (reference.origin, reference.identity),
                        None => (Origin::Teacher(teacher), candidate.identity),
                    };
                    return Ok(Reference {
                        origin,
                        identity,
                        class_names: Some(candidate.class_names),
                    });
                }
                Err(status) => roster.set(&teacher, status),
            }
        }
        let teachers = roster.describe();
        if roster.all_refused() {
            return Err(PoolError::AllRefused { teachers });
        }
        if Instant::now() >= deadline {
            let seconds = config.wait_timeout_seconds;
            return Err(PoolError::NoTeacher { seconds, teachers });
        }
        back_off.pause().await;
    }
}

fn check(
    connected: Result<Candidate, String>,
    expected: &ExpectedTeacher,
    reference: Option<&Reference>,
    config: &PoolConfig,
) -> Result<Candidate, TeacherStatus> {
    let candidate = connected.map_err(TeacherStatus::Unavailable)?;
    candidate
        .check(expected, config.encoding)
        .and_then(|()| match reference {
            Some(reference) => reference.accept(&candidate, expected, config.numerics),
            None => Ok(()),
        })
        .map_err(TeacherStatus::Refused)?;
    Ok(candidate)
}
