//! Checks of a route.

use common::config::Problems;

use crate::config::{LABELLED, PositionRange, RouteBy, RouteConfig, RunConfig, UNLABELLED};

impl RunConfig {
    /// Adds all problems of the route at `key`.
    pub(super) fn validate_route(&self, key: &str, route: &RouteConfig, problems: &mut Problems) {
        let RouteConfig {
            by,
            teachers,
            default,
        } = route;
        self.require_teacher(&format!("{key}.default"), default, default, problems);
        let key = format!("{key}.teachers");
        problems.require(!teachers.is_empty(), &key, "{}", "needs at least one");
        let needs_one = match by {
            RouteBy::Class => "needs at least one class",
            RouteBy::Position => "needs at least one range of positions",
            RouteBy::Labelled => "needs \"labelled\" or \"unlabelled\"",
        };
        let mut earlier: Vec<(&str, &str)> = Vec::new();
        for (name, listed) in teachers {
            let key = format!("{key}.{name}");
            self.require_teacher(&key, format!("{listed:?}"), name, problems);
            problems.require(!listed.is_empty(), &key, "[]", needs_one);
            for samples in listed {
                let unknown = self.unknown_samples(*by, samples);
                let shared = earlier
                    .iter()
                    .find_map(|(other, teacher)| shared_samples(*by, samples, other, teacher));
                for problem in unknown.into_iter().chain(shared) {
                    problems.add(&*key, samples, &problem);
                }
                earlier.push((samples.as_str(), name.as_str()));
            }
        }
    }

    /// Why `samples` does not stand for samples of a route by `by`; `None` if it does.
    fn unknown_samples(&self, by: RouteBy, samples: &str) -> Option<String> {
        match by {
            RouteBy::Class => {
                let known = self.data.class_names.iter().any(|class| class == samples);
                (!known).then(|| "is not one of data.class_names".to_owned())
            }
            RouteBy::Position => {
                let range = samples.parse::<PositionRange>();
                range.err().map(|error| error.to_string())
            }
            RouteBy::Labelled => {
                let known = [LABELLED, UNLABELLED].contains(&samples);
                (!known).then(|| "must be \"labelled\" or \"unlabelled\"".to_owned())
            }
        }
    }
}

/// How `samples` shares some with `other`, which `teacher` gets; `None` if it does not.
fn shared_samples(by: RouteBy, samples: &str, other: &str, teacher: &str) -> Option<String> {
    match by {
        RouteBy::Class => (samples == other).then(|| format!("is also a class of {teacher}")),
        RouteBy::Position => {
            let range: PositionRange = samples.parse().ok()?;
            let overlaps = range.overlaps(other.parse().ok()?);
            overlaps.then(|| format!("overlaps {other} of {teacher}"))
        }
        RouteBy::Labelled => (samples == other).then(|| format!("is also listed for {teacher}")),
    }
}
