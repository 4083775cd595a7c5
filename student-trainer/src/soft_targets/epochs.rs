//! The epochs, and so the views, that still need soft targets.

use std::{collections::BTreeSet, ops::Range};

use crate::config::{FixedViews, RunConfig};

/// Epochs that train with soft targets, by phase.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SoftTargetEpochs(Vec<Range<usize>>);

impl SoftTargetEpochs {
    /// The epochs of the whole run.
    pub fn all(config: &RunConfig) -> Self {
        Self::left(config, |_| 0)
    }

    /// The epochs that remain after `done` epochs of each phase, which is named by its position.
    pub fn left(config: &RunConfig, done: impl Fn(usize) -> usize) -> Self {
        let phases = config.phases.iter().enumerate();
        let distilling = phases.filter(|(_, phase)| phase.loss.needs_soft_targets());
        Self(
            distilling
                .map(|(index, phase)| done(index)..phase.epochs)
                .collect(),
        )
    }

    /// Whether no more soft targets are needed.
    pub fn is_empty(&self) -> bool {
        self.0.iter().all(Range::is_empty)
    }

    /// The views of a fixed set that these epochs use.
    pub fn views(&self, views: FixedViews) -> BTreeSet<u32> {
        // A phase uses every view within as many epochs as there are views.
        let seen = |epochs: &Range<usize>| epochs.clone().take(views.count as usize);
        let epochs = self.0.iter().flat_map(seen);
        epochs.map(|epoch| views.of_epoch(epoch)).collect()
    }
}

#[cfg(test)]
mod tests {
    use test_support::run_toml::{PhaseToml, RunToml, SOFT_CROSS_ENTROPY};

    use super::*;

    #[test]
    fn the_remaining_epochs_decide_which_views_are_needed() {
        let phase = |epochs, loss| PhaseToml {
            epochs,
            loss,
            ..PhaseToml::default()
        };
        let toml = RunToml {
            phases: &[
                phase(7, SOFT_CROSS_ENTROPY),
                phase(9, PhaseToml::default().loss),
                phase(2, "{ kind = \"kd\", temperature = 2.0, alpha = 0.5 }"),
            ],
            tables: "[teacher]\nendpoints = [\"a:1\"]",
            ..RunToml::default()
        };
        let config = RunConfig::from_toml(&toml.to_string()).unwrap();
        for (done, count, views) in [
            ([0, 0, 0], 4, &[0, 1, 2, 3][..]),
            ([0, 0, 0], 9, &[0, 1, 2, 3, 4, 5, 6]),
            ([0, 0, 0], 1, &[0]),
            // Epochs 5 and 6 of the first phase, both of the last.
            ([5, 0, 0], 9, &[0, 1, 5, 6]),
            ([5, 0, 0], 4, &[0, 1, 2]),
            ([7, 3, 0], 4, &[0, 1]),
            ([7, 9, 1], 4, &[1]),
            ([7, 9, 2], 4, &[]),
        ] {
            let left = SoftTargetEpochs::left(&config, |phase| done[phase]);
            let seen = left.views(FixedViews { count, seed: 1 });
            assert!(seen.iter().eq(views), "{done:?}, {count}: {seen:?}");
            assert_eq!(left.is_empty(), views.is_empty());
        }
        assert_eq!(
            SoftTargetEpochs::all(&config),
            SoftTargetEpochs::left(&config, |_| 0)
        );
    }
}
