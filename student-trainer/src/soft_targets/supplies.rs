//! The soft targets of all teachers of one run.

use std::{path::Path, thread};

use artifacts::manifest::TeacherIdentity;
use common::digest::Sha256;
use soft_targets::ShardSpace;
use tokio_util::sync::CancellationToken;

use super::{
    context::SupplyContext, error::SoftTargetError, recording_run::RecordingRun,
    source::SoftTargetSource, supply::SoftTargetSupply,
};
use crate::events::NoticeSender;

/// Where the soft targets of a run come from, for each of its teachers.
pub struct TeacherSupplies<'r> {
    /// In the order of the run's teachers.
    supplies: Vec<NamedSupply<'r>>,
    cancel: &'r CancellationToken,
}

struct NamedSupply<'r> {
    name: Option<&'r str>,
    supply: SoftTargetSupply<'r>,
}

/// The teacher of a supply, and how its classes become those of the data.
#[derive(Debug, Clone)]
pub struct SuppliedTeacher<'s> {
    /// `None` for the teacher of `[teacher]`.
    pub name: Option<&'s str>,
    /// Weights, architecture and numerics.
    pub identity: &'s TeacherIdentity,
    /// Digest of the order into which its classes are brought, if they are not in the order of the data.
    pub class_order: Option<Sha256>,
}

impl<'r> TeacherSupplies<'r> {
    /// Connects to each teacher, or opens its recording and verifies it. `contexts` are those of the run's teachers, in
    /// order.
    ///
    /// # Errors
    /// Of the first teacher that has no soft targets: it cannot be reached, no recording of it fits, there is too little
    /// space for one, or shards cannot be used.
    pub fn prepare(
        contexts: Vec<SupplyContext<'r>>,
        notices: &NoticeSender,
        cancel: &'r CancellationToken,
    ) -> Result<Self, SoftTargetError> {
        let supplies = contexts
            .into_iter()
            .map(|context| -> Result<_, SoftTargetError> {
                let teacher = context.teacher;
                let notices = match teacher.name {
                    Some(_) => notices.about(&teacher.to_string()),
                    None => notices.clone(),
                };
                let supply = SoftTargetSupply::prepare(context, notices);
                Ok(NamedSupply {
                    name: teacher.name,
                    supply: supply.map_err(|error| error.of(teacher.name))?,
                })
            });
        Ok(Self {
            supplies: supplies.collect::<Result<_, _>>()?,
            cancel,
        })
    }

    /// The teachers whose soft targets the run still needs.
    pub fn teachers(&self) -> impl Iterator<Item = SuppliedTeacher<'_>> {
        self.supplies.iter().filter_map(|it| {
            Some(SuppliedTeacher {
                name: it.name,
                identity: it.supply.teacher()?,
                class_order: it.supply.class_order(),
            })
        })
    }

    /// The folders or URLs of the recordings to which the run adds shards, and the space that these take.
    pub fn recordings(&self) -> Vec<(&Path, ShardSpace)> {
        let recordings = self.supplies.iter().filter_map(|it| it.supply.recording());
        recordings.map(RecordingRun::space).collect()
    }

    /// Calls `train` with what a phase asks of each teacher, in order; `None` for teachers that no phase needs any
    /// more. Records what is missing meanwhile, if the run is to record.
    pub fn while_training<T>(&self, train: impl FnOnce(&[Option<SoftTargetSource<'_>>]) -> T) -> T {
        let sources: Vec<_> = self.supplies.iter().map(|it| it.supply.source()).collect();
        let stop = self.cancel.child_token();
        thread::scope(|scope| {
            // Stops the recorders even if training fails or panics, because the scope waits for them.
            let _stop = stop.clone().drop_guard();
            for run in self.supplies.iter().filter_map(|it| it.supply.recording()) {
                let stop = &stop;
                scope.spawn(move || run.record_until(stop));
            }
            train(&sources)
        })
    }
}
