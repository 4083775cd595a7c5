//! Finds the reference: the first teacher, whose identity all others must share.

use artifacts::manifest::TeacherIdentity;
use futures::future::join_all;
use tokio::time::Instant;

use crate::{
    candidate::{Candidate, Interface, reconnect_back_off},
    config::PoolConfig,
    directory::Directory,
    error::PoolError,
    expected::ExpectedTeacher,
    reference::{Origin, Reference},
    roster::Roster,
    teacher::TeacherStatus,
};

/// Asks all endpoints at once, until a teacher that fits answers; returns the reference, and what that teacher takes
/// and answers. If several fit, the first in the configured order
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
) -> Result<(Reference, Interface), PoolError> {
    let from_checkpoint = expected.identity.clone().map(|identity| Reference {
        origin: Origin::Checkpoint,
        identity,
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
                Ok((identity, interface)) => {
                    let reference = from_checkpoint.unwrap_or(Reference {
                        origin: Origin::Teacher(teacher),
                        identity,
                    });
                    return Ok((reference, interface));
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
) -> Result<(TeacherIdentity, Interface), TeacherStatus> {
    let candidate = connected.map_err(TeacherStatus::Unavailable)?;
    let fit = candidate
        .check(expected, config.encoding)
        .and_then(|interface| {
            if let Some(reference) = reference {
                reference.accept(&candidate.identity, config.numerics)?;
            }
            Ok(interface)
        });
    let interface = fit.map_err(TeacherStatus::Refused)?;
    Ok((candidate.identity, interface))
}
