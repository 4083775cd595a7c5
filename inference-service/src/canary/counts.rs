//! Counts of all trials of a model, for the metrics.

use std::sync::atomic::{AtomicU64, Ordering};

/// How a trial ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The canary became the active version.
    Promoted,
    /// The canary failed the rule.
    RolledBack,
    /// Another change of the model's versions ended the trial.
    Withdrawn,
}

/// What happened to the canaries of one model.
#[derive(Debug, Default)]
pub(crate) struct CanaryCounts {
    promoted: AtomicU64,
    rolled_back: AtomicU64,
    withdrawn: AtomicU64,
    pub(super) compared: AtomicU64,
    pub(super) agreeing: AtomicU64,
    pub(super) not_compared: AtomicU64,
}

impl CanaryCounts {
    /// Trials that ended in each way.
    pub(crate) fn outcomes(&self) -> [(Outcome, u64); 3] {
        Outcome::ALL.map(|outcome| (outcome, self.of(outcome).load(Ordering::Relaxed)))
    }

    /// Samples whose classes were compared.
    pub(crate) fn compared(&self) -> u64 {
        self.compared.load(Ordering::Relaxed)
    }

    /// Compared samples for which the canary agreed.
    pub(crate) fn agreeing(&self) -> u64 {
        self.agreeing.load(Ordering::Relaxed)
    }

    /// Requests that were selected and not compared: the queue was full, or the reference gave no answer.
    pub(crate) fn not_compared(&self) -> u64 {
        self.not_compared.load(Ordering::Relaxed)
    }

    pub(super) fn end(&self, outcome: Outcome) {
        self.of(outcome).fetch_add(1, Ordering::Relaxed);
    }

    fn of(&self, outcome: Outcome) -> &AtomicU64 {
        match outcome {
            Outcome::Promoted => &self.promoted,
            Outcome::RolledBack => &self.rolled_back,
            Outcome::Withdrawn => &self.withdrawn,
        }
    }
}

impl Outcome {
    pub(crate) const ALL: [Self; 3] = [Self::Promoted, Self::RolledBack, Self::Withdrawn];

    /// Value of the metric's label `outcome`.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Promoted => "promoted",
            Self::RolledBack => "rolled_back",
            Self::Withdrawn => "withdrawn",
        }
    }
}
