//! The samples of a recording that the run does not use.

use datasets::{IGNORED_LABEL, Source, Subset};

use super::{context::SupplyContext, phase_targets::routes_to};
use crate::{
    config::{RoutedSample, RunConfig},
    events::NoticeSender,
};

/// Says before a teacher records how many of the samples no term of the run uses: a recording has all training samples, also
/// those that routes send to other teachers.
pub(super) fn report(context: &SupplyContext<'_>, notices: &NoticeSender) {
    let unused = unused(context.config, context.teacher.position, context.train);
    if unused > 0 {
        let samples = context.train.len();
        notices.notice(format!(
            "records all {samples} training samples; no term of this run uses {unused} of them, because routes send them to \
             other teachers"
        ));
    }
}

/// Number of samples of `train` for which no term learns from the teacher at position `teacher`. 0 if samples are mixed: the
/// teacher of a mixed sample depends on its view.
fn unused(config: &RunConfig, teacher: usize, train: &Subset) -> usize {
    let augmentation = &config.data.augmentation;
    if augmentation.mixup.is_some() || augmentation.cutmix.is_some() {
        return 0;
    }
    let terms = config.loss_terms();
    let terms: Vec<_> = terms.map(|term| config.teachers_of(&term.term)).collect();
    let Some(routes) = routes_to(teacher, &terms) else {
        return 0;
    };
    let is_used = |sample: u32| {
        let sample = RoutedSample {
            position: train.stored_position(sample),
            label: train.label(sample).map_or(IGNORED_LABEL, i64::from),
        };
        routes.iter().any(|route| route.teacher(sample) == teacher)
    };
    let samples = 0..train.len() as u32;
    samples.filter(|sample| !is_used(*sample)).count()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use datasets::InMemoryImages;
    use test_support::run_toml::{PhaseToml, RunToml};

    use super::*;

    /// A run whose phases learn from these teachers, ensembles and routes.
    fn config(phases: &[&str], augmentation: &str) -> RunConfig {
        let losses = phases
            .iter()
            .map(|name| format!("[{{ kind = \"kd\", temperature = 2, teacher = \"{name}\" }}]"));
        let losses: Vec<_> = losses.collect();
        let phases = losses.iter().map(|loss| PhaseToml {
            loss,
            ..PhaseToml::default()
        });
        let phases: Vec<_> = phases.collect();
        let tables = format!(
            "[data.augmentation]\n{augmentation}\n\
             [teachers]\na = {{ endpoints = [\"a:1\"] }}\nb = {{ endpoints = [\"b:1\"] }}\n\
             [routes.bags]\nby = \"class\"\ndefault = \"b\"\nteachers = {{ a = [\"Bag\"] }}\n"
        );
        let toml = RunToml {
            phases: &phases,
            tables: &tables,
            ..RunToml::default()
        };
        RunConfig::from_toml(&toml.to_string()).unwrap()
    }

    #[test]
    fn samples_that_routes_send_elsewhere_are_counted_unless_a_term_uses_them() {
        let names = (0..10).map(|class| class.to_string()).collect();
        // The ninth class is the bag.
        let labels = vec![Some(8), Some(0), None, Some(8), Some(8)];
        let images = InMemoryImages::new([1, 2, 2], names, (0..20).collect(), labels);
        let train = Subset::whole(Arc::new(images));
        let counts = |config: &RunConfig| [0, 1].map(|teacher| unused(config, teacher, &train));
        assert_eq!(counts(&config(&["bags"], "pad = 0")), [2, 3]);
        assert_eq!(counts(&config(&["bags", "a"], "pad = 0")), [0, 3]);
        let mixed = config(&["bags"], "pad = 0\nmixup = { alpha = 0.2 }");
        assert_eq!(counts(&mixed), [0, 0]);
    }
}
