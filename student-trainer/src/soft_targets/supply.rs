//! The soft targets of one teacher of a run, as its configuration says.

use artifacts::manifest::TeacherIdentity;
use common::digest::Sha256;
use soft_targets::ClassOrder;
use teacher_pool::TeacherPool;

use super::{
    context::SupplyContext, error::SoftTargetError, fallback::Fallback, live::LiveTargets,
    recorded::RecordedTargets, recording_run::RecordingRun, source::SoftTargetSource,
};
use crate::{
    config::{self, SoftTargetsMode},
    events::NoticeSender,
};

/// Where the soft targets of one teacher come from.
pub struct SoftTargetSupply<'r> {
    prefetch: usize,
    mode: SupplyMode<'r>,
}

enum SupplyMode<'r> {
    /// No phase needs soft targets.
    None,
    /// Teachers are asked for every batch.
    Live {
        pool: TeacherPool,
        fallback: Option<Box<Fallback>>,
        order: Option<ClassOrder>,
    },
    /// A recording has everything that the run still needs.
    Recorded(Box<RecordedTargets>),
    /// Missing shards are recorded while the run reads the others.
    Record(Box<RecordingRun<'r>>),
}

impl<'r> SoftTargetSupply<'r> {
    /// Connects to teachers, or opens a recording and verifies it.
    ///
    /// # Errors
    /// If there is no teacher, no recording that fits, or too little space for one, or if shards cannot be
    /// used.
    pub fn prepare(
        context: SupplyContext<'r>,
        notices: NoticeSender,
    ) -> Result<Self, SoftTargetError> {
        let mode = match context.config.soft_targets_mode() {
            _ if context.epochs.is_empty() => SupplyMode::None,
            SoftTargetsMode::Live => live(&context, &notices)?,
            SoftTargetsMode::Recorded => {
                SupplyMode::Recorded(Box::new(context.recorded(&notices)?))
            }
            SoftTargetsMode::Record => {
                let pool = context.connect(notices.clone())?;
                SupplyMode::Record(Box::new(RecordingRun::prepare(&context, pool, notices)?))
            }
        };
        Ok(Self {
            prefetch: context.prefetch(),
            mode,
        })
    }

    /// The teacher whose soft targets they are, if any are needed.
    pub fn teacher(&self) -> Option<&TeacherIdentity> {
        match &self.mode {
            SupplyMode::None => None,
            SupplyMode::Live { pool, .. } => Some(pool.identity()),
            SupplyMode::Recorded(recorded) => Some(recorded.teacher()),
            SupplyMode::Record(run) => Some(run.recorded().teacher()),
        }
    }

    /// Digest of the order into which the classes are brought, if they are not in the order of the data.
    pub fn class_order(&self) -> Option<Sha256> {
        let order = match &self.mode {
            SupplyMode::None => None,
            SupplyMode::Live { order, .. } => order.as_ref(),
            SupplyMode::Recorded(recorded) => recorded.order(),
            SupplyMode::Record(run) => run.recorded().order(),
        };
        order.map(ClassOrder::digest)
    }

    /// What a phase asks; `None` if no phase needs these soft targets any more.
    pub(super) fn source(&self) -> Option<SoftTargetSource<'_>> {
        Some(match &self.mode {
            SupplyMode::None => return None,
            SupplyMode::Live {
                pool,
                fallback,
                order,
            } => SoftTargetSource::Live(LiveTargets {
                pool,
                prefetch: self.prefetch,
                fallback: fallback.as_deref(),
                order: order.as_ref(),
            }),
            SupplyMode::Recorded(recorded) => SoftTargetSource::Recorded(recorded),
            SupplyMode::Record(run) => SoftTargetSource::Recorded(run.recorded()),
        })
    }

    /// What is to be recorded while the run trains, if anything.
    pub(super) fn recording(&self) -> Option<&RecordingRun<'r>> {
        match &self.mode {
            SupplyMode::Record(run) => Some(run.as_ref()),
            SupplyMode::None | SupplyMode::Live { .. } | SupplyMode::Recorded(_) => None,
        }
    }
}

/// Connects to teachers. If there is none, the fallback recording replaces them.
fn live<'r>(
    context: &SupplyContext<'r>,
    notices: &NoticeSender,
) -> Result<SupplyMode<'r>, SoftTargetError> {
    let falls_back = context.config.fallback() == config::Fallback::Recorded;
    let pool = match context.connect(notices.clone()) {
        Err(SoftTargetError::Teacher(error)) if falls_back && Fallback::applies_to(&error) => {
            let recorded = Fallback::at_start(context.recorded(notices), error, notices)?;
            return Ok(SupplyMode::Recorded(Box::new(recorded)));
        }
        pool => pool?,
    };
    let fallback = if falls_back {
        let recorded = context.as_far_as_recorded(pool.identity(), notices)?;
        Some(Box::new(Fallback::new(recorded, notices.clone())))
    } else {
        None
    };
    Ok(SupplyMode::Live {
        order: context.class_order(Some(pool.class_names()), "the teacher", notices)?,
        pool,
        fallback,
    })
}
