//! The teachers of a run, and which of them a term of a loss learns from.
//!
//! A run has one teacher without a name (`[teacher]`), or named ones (`[teachers.NAME]`). A term names a teacher, an
//! ensemble or a route of teachers.

use std::{collections::BTreeSet, fmt};

use soft_targets::Encoding;
use teacher_pool::{NumericsPolicy, PoolConfig};

use super::{
    EnsembleConfig, EnsembleMean, LABELLED, LossTerm, NamedTerm, PhaseConfig, RouteBy, RouteConfig,
    RouteRule, RunConfig, SampleRoute, TargetClasses, UNLABELLED, UnmetNeed,
};

mod validation;

/// A teacher of a run, with its settings.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ConfiguredTeacher<'c> {
    /// Position among the run's teachers, which are in the order of their names.
    pub position: usize,
    /// `None` for the teacher of `[teacher]`.
    pub name: Option<&'c str>,
    /// How to reach it; a run on recordings may lack it.
    pub pool: Option<&'c PoolConfig>,
    /// First digits of its model id, which select its recording if several fit.
    pub recording: Option<&'c str>,
}

/// What a term learns from. Teachers are positions among those of the run.
#[derive(Debug, Clone, PartialEq)]
pub enum TermTeachers {
    /// One teacher.
    One(usize),
    /// The weighted mean of some.
    Ensemble(TeacherEnsemble),
    /// For each sample, the teacher that a route sends it to.
    Route(SampleRoute),
}

/// The weighted mean of some teachers.
#[derive(Debug, Clone, PartialEq)]
pub struct TeacherEnsemble {
    /// The teachers in order, with weights that add up to 1.
    pub members: Vec<(usize, f64)>,
    /// What the mean is of.
    pub of: EnsembleMean,
}

impl RunConfig {
    /// The teachers of the run, in the order of their names. A run without names has one, whether it needs it or not.
    pub fn all_teachers(&self) -> Vec<ConfiguredTeacher<'_>> {
        let recordings = self.soft_targets.as_ref();
        let digits = |name: &str| recordings?.teachers.get(name).map(String::as_str);
        let named = self.teacher_names().into_iter().enumerate();
        let named = named.map(|(position, name)| ConfiguredTeacher {
            position,
            name: Some(name),
            pool: self.teachers.get(name),
            recording: digits(name),
        });
        let mut teachers: Vec<_> = named.collect();
        if teachers.is_empty() {
            teachers.push(ConfiguredTeacher {
                position: 0,
                name: None,
                pool: self.teacher.as_ref(),
                recording: recordings.and_then(|targets| targets.teacher.as_deref()),
            });
        }
        teachers
    }

    /// The teacher that can be asked and is called `name`, or the only one.
    pub fn teacher_called(&self, name: Option<&str>) -> Option<ConfiguredTeacher<'_>> {
        let teachers = self.all_teachers().into_iter();
        let mut teachers: Vec<_> = teachers.filter(|it| it.pool.is_some()).collect();
        let named = teachers
            .iter()
            .position(|it| it.name.is_some() && it.name == name);
        match (named, teachers.len()) {
            (Some(position), _) => Some(teachers.swap_remove(position)),
            (None, 1) => teachers.pop(),
            (None, _) => None,
        }
    }

    /// What `term` of a validated configuration learns from besides labels; `None` if nothing.
    pub fn teachers_of(&self, term: &LossTerm) -> Option<TermTeachers> {
        term.needs().soft_targets?;
        let names = self.teacher_names();
        let position = |name: &str| names.iter().position(|it| *it == name);
        let Some(name) = term.teacher.as_deref() else {
            return (names.len() <= 1).then_some(TermTeachers::One(0));
        };
        if let Some(position) = position(name) {
            return Some(TermTeachers::One(position));
        }
        if let Some(EnsembleConfig { teachers, of }) = self.ensembles.get(name) {
            let sum: f64 = teachers.values().sum();
            let members = teachers.iter();
            let members = members.map(|(name, weight)| Some((position(name)?, weight / sum)));
            return Some(TermTeachers::Ensemble(TeacherEnsemble {
                members: members.collect::<Option<_>>()?,
                of: *of,
            }));
        }
        let route = self.sample_route(self.routes.get(name)?, position)?;
        Some(TermTeachers::Route(route))
    }

    /// `route` with the positions of its teachers; `None` if one is unknown.
    fn sample_route(
        &self,
        route: &RouteConfig,
        position: impl Fn(&str) -> Option<usize>,
    ) -> Option<SampleRoute> {
        let teacher_of = |samples: &str| {
            let mut teachers = route.teachers.iter();
            let found = teachers.find(|(_, listed)| listed.iter().any(|it| it == samples));
            position(found.map_or(&route.default, |(teacher, _)| teacher))
        };
        let rule = match route.by {
            RouteBy::Class => {
                let classes = self.data.class_names.iter();
                let of_class = classes.map(|class| teacher_of(class));
                RouteRule::Class(of_class.collect::<Option<_>>()?)
            }
            RouteBy::Position => {
                let ranges = route.ranges();
                let ranges = ranges.map(|(teacher, range)| Some((range, position(teacher)?)));
                RouteRule::Position(ranges.collect::<Option<_>>()?)
            }
            RouteBy::Labelled => RouteRule::Labelled {
                labelled: teacher_of(LABELLED)?,
                unlabelled: teacher_of(UNLABELLED)?,
            },
        };
        Some(SampleRoute {
            rule,
            default: position(&route.default)?,
        })
    }

    /// Whether a term of `phase` learns from the teacher at `position`.
    pub fn phase_uses(&self, phase: &PhaseConfig, position: usize) -> bool {
        let terms = phase.loss.terms();
        let mut used = terms.iter().filter_map(|term| self.teachers_of(term));
        used.any(|teachers| teachers.positions().contains(&position))
    }

    /// Whether the teacher that is called `name`, or that of `[teacher]`, may have other numerics from batch to batch.
    pub fn mixes_numerics(&self, name: Option<&str>) -> bool {
        let pool = match name {
            Some(name) => self.teachers.get(name),
            None => self.teacher.as_ref(),
        };
        pool.is_some_and(|pool| pool.numerics == NumericsPolicy::Any)
    }

    /// What `term` needs and soft targets in `encoding` do not have; `None` if they have all of it. A term that
    /// combines teachers needs the logits of all classes.
    pub fn unmet_need(&self, term: &NamedTerm, encoding: Encoding) -> Option<UnmetNeed> {
        let needed = term.term.needs().soft_targets?;
        let teachers = self.teachers_of(&term.term);
        let combines = teachers.is_some_and(|teachers| teachers.combines());
        let needed = if combines { TargetClasses::All } else { needed };
        UnmetNeed::of(needed, encoding, self.network.classes)
    }

    /// The names of all named teachers, in order.
    fn teacher_names(&self) -> Vec<&str> {
        let recordings = self.soft_targets.iter();
        let recorded = recordings.flat_map(|targets| targets.teachers.keys());
        let names: BTreeSet<&str> = self
            .teachers
            .keys()
            .chain(recorded)
            .map(String::as_str)
            .collect();
        names.into_iter().collect()
    }
}

impl ConfiguredTeacher<'_> {
    /// The table of its pool: `teacher`, or `teachers.NAME`.
    pub fn table(&self) -> String {
        match self.name {
            Some(name) => format!("teachers.{name}"),
            None => "teacher".to_owned(),
        }
    }
}

impl fmt::Display for ConfiguredTeacher<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name {
            Some(name) => write!(f, "teacher {name}"),
            None => f.write_str("the teacher"),
        }
    }
}

impl TermTeachers {
    /// The teachers that it asks for some sample.
    pub fn positions(&self) -> BTreeSet<usize> {
        match self {
            Self::One(position) => BTreeSet::from([*position]),
            Self::Ensemble(ensemble) => ensemble.members.iter().map(|(it, _)| *it).collect(),
            Self::Route(route) => route.teachers(),
        }
    }

    /// Whether it combines the logits of several teachers, for which it needs those of all classes.
    pub fn combines(&self) -> bool {
        !matches!(self, Self::One(_))
    }
}

#[cfg(test)]
mod tests;
