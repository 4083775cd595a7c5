//! The epochs, and so the views, that still need soft targets.

use std::{collections::BTreeSet, ops::Range};

use crate::config::{FixedViews, RunConfig};

/// Epochs that train with soft targets, by phase.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SoftTargetEpochs(Vec<Range<usize>>);

impl SoftTargetEpochs {
    /// The epochs of the whole run that need the teacher at position `teacher`.
    pub fn all(config: &RunConfig, teacher: usize) -> Self {
        Self::left(config, teacher, |_| 0)
    }

    /// The epochs that remain after `done` epochs of each phase, which is named by its position, and that need the
    /// teacher at position `teacher`.
    pub fn left(config: &RunConfig, teacher: usize, done: impl Fn(usize) -> usize) -> Self {
        let phases = config.phases.iter().enumerate();
        let distilling = phases.filter(|(_, phase)| config.phase_uses(phase, teacher));
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
            let left = SoftTargetEpochs::left(&config, 0, |phase| done[phase]);
            let seen = left.views(FixedViews { count, seed: 1 });
            assert!(seen.iter().eq(views), "{done:?}, {count}: {seen:?}");
            assert_eq!(left.is_empty(), views.is_empty());
        }
        assert_eq!(
            SoftTargetEpochs::all(&config, 0),
            SoftTargetEpochs::left(&config, 0, |_| 0)
        );
    }

    #[test]
    fn a_teacher_is_needed_in_the_phases_whose_terms_learn_from_it() {
        let phase = |epochs, loss| PhaseToml {
            epochs,
            loss,
            ..PhaseToml::default()
        };
        let toml = RunToml {
            phases: &[
                phase(
                    3,
                    "{ kind = \"soft_cross_entropy\", temperature = 2, teacher = \"wide\" }",
                ),
                phase(
                    2,
                    "{ kind = \"kd\", temperature = 2, alpha = 1, teacher = \"both\" }",
                ),
            ],
            tables: "[teachers]\nbig = { endpoints = [\"a:1\"] }\nwide = { endpoints = [\"b:1\"] }\n\
                     [ensembles.both]\nteachers = { big = 1, wide = 1 }",
            ..RunToml::default()
        };
        let config = RunConfig::from_toml(&toml.to_string()).unwrap();
        let views = FixedViews { count: 9, seed: 1 };
        let seen = |teacher| SoftTargetEpochs::all(&config, teacher).views(views).len();
        assert_eq!([seen(0), seen(1)], [2, 3]);
        // After the first phase, both have two epochs left.
        for teacher in 0..2 {
            let left = SoftTargetEpochs::left(&config, teacher, |phase| [3, 0][phase]);
            assert_eq!(left.views(views).len(), 2);
        }
    }
}
