//! Checks that teachers, ensembles, routes and the terms of the losses fit together.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Display,
};

use common::config::Problems;

use crate::config::{EnsembleConfig, Fallback, RunConfig, SoftTargetsConfig, SoftTargetsMode};

mod route;

/// Longest name of a teacher, an ensemble or a route.
const MAX_NAME: usize = 64;

impl RunConfig {
    /// Adds all problems of teachers, ensembles and routes, and of the terms that name them.
    pub(in crate::config) fn validate_teachers(&self, problems: &mut Problems) {
        if let Some(pool) = &self.teacher {
            pool.validate("teacher", problems);
        }
        for (name, pool) in &self.teachers {
            pool.validate(&format!("teachers.{name}"), problems);
        }
        self.validate_forms(problems);
        self.validate_names(problems);
        self.validate_recordings(problems);
        for (name, ensemble) in &self.ensembles {
            self.validate_ensemble(&format!("ensembles.{name}"), ensemble, problems);
        }
        for (name, route) in &self.routes {
            self.validate_route(&format!("routes.{name}"), route, problems);
        }
        self.validate_terms(problems);
        self.validate_use(problems);
    }

    /// A run has either one teacher without a name or named ones.
    fn validate_forms(&self, problems: &mut Problems) {
        let names = self.teacher_names();
        let targets = self.soft_targets.as_ref();
        if self.teacher.is_some() && !names.is_empty() {
            let (key, message) = if self.teachers.is_empty() {
                (
                    "soft_targets.teachers",
                    "is for named teachers; for that of [teacher], set soft_targets.teacher",
                )
            } else {
                (
                    "teachers",
                    "is not allowed beside [teacher], which is for a single teacher: give that one a name too",
                )
            };
            problems.add(key, list(&names), message);
        }
        let single = targets.and_then(|targets| targets.teacher.as_ref());
        if let (Some(digits), false) = (single, names.is_empty()) {
            let message = "is for the teacher of [teacher]; of named teachers, set soft_targets.teachers.NAME";
            problems.add("soft_targets.teacher", digits, message);
        }
        if self.teacher.is_none() && names.is_empty() {
            let mut terms = self.loss_terms().filter(|_| self.needs_teacher());
            if let Some(term) = terms.find(|it| it.term.needs().soft_targets.is_some()) {
                let message = format!("is missing, and {term} needs a teacher's soft targets");
                problems.add("teacher", "(none)", &message);
            }
        }
    }

    /// Names are safe in keys and paths, and each is given once.
    fn validate_names(&self, problems: &mut Problems) {
        let tables = [
            ("teachers", self.teacher_names()),
            ("ensembles", keys(&self.ensembles)),
            ("routes", keys(&self.routes)),
        ];
        let mut known: BTreeMap<&str, &str> = BTreeMap::new();
        for (table, names) in tables {
            for name in names {
                let is_safe =
                    |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
                let fits = (1..=MAX_NAME).contains(&name.len()) && name.bytes().all(is_safe);
                let key = format!("{table}.{name}");
                let message = "has a name that is not 1 to 64 letters, digits, - and _ of ASCII";
                problems.require(fits, &key, "{…}", message);
                if let Some(other) = known.insert(name, table) {
                    let message =
                        format!("has the name of {other}.{name}, which a term could mean too");
                    problems.add(key, "{…}", &message);
                }
            }
        }
    }

    /// Each named teacher has an endpoint, or a recording that differs from those of the others.
    fn validate_recordings(&self, problems: &mut Problems) {
        let names = self.teacher_names();
        let recorded = self.soft_targets.as_ref();
        let recorded = recorded.map_or_else(BTreeMap::new, |targets| targets.teachers.clone());
        if self.soft_targets_mode() != SoftTargetsMode::Recorded && self.teacher.is_none() {
            for name in recorded.keys() {
                let there = self.teachers.contains_key(name);
                let message = "is missing, and soft_targets.teachers names it";
                problems.require(there, &format!("teachers.{name}"), "(none)", message);
            }
        }
        let reads_alone = self.soft_targets_mode() == SoftTargetsMode::Recorded
            || self.fallback() == Fallback::Recorded;
        if !reads_alone || names.len() < 2 {
            return;
        }
        for name in names {
            let message = "is missing: the first digits of the teacher's model id tell its recording from those of \
                           the other teachers";
            let key = format!("soft_targets.teachers.{name}");
            let digits = recorded.get(name).is_some_and(|digits| !digits.is_empty());
            problems.require(digits, &key, "(none)", message);
        }
    }

    fn validate_ensemble(&self, key: &str, ensemble: &EnsembleConfig, problems: &mut Problems) {
        let EnsembleConfig { teachers, of: _ } = ensemble;
        let key = format!("{key}.teachers");
        problems.require(!teachers.is_empty(), &key, "{}", "needs at least one");
        for (name, weight) in teachers {
            let key = format!("{key}.{name}");
            self.require_teacher(&key, weight, name, problems);
            problems.require_positive(&key, *weight);
        }
    }

    fn require_teacher(&self, key: &str, value: impl Display, name: &str, problems: &mut Problems) {
        let names = self.teacher_names();
        let message = format!("{name} is not a teacher; the run has {}", list(&names));
        problems.require(names.contains(&name), key, value, &message);
    }

    /// Every term with soft targets says whose, if there is a choice.
    fn validate_terms(&self, problems: &mut Problems) {
        let names = self.teacher_names();
        let terms = self.loss_terms();
        for term in terms.filter(|it| it.term.needs().soft_targets.is_some()) {
            let key = format!("{}.teacher", term.key);
            match term.term.teacher.as_deref() {
                None => {
                    let message =
                        format!("is missing: the run has several teachers, {}", list(&names));
                    problems.require(names.len() < 2, &key, "(none)", &message);
                }
                Some(name) if names.is_empty() => {
                    let message = "is not a teacher: only those of [teachers] have names";
                    problems.add(key, name, message);
                }
                Some(name) => {
                    let known = names.contains(&name)
                        || self.ensembles.contains_key(name)
                        || self.routes.contains_key(name);
                    let combined = [keys(&self.ensembles), keys(&self.routes)].concat();
                    let message = format!(
                        "is not a teacher, an ensemble or a route; the run has {}",
                        list(&[&*names, &*combined].concat())
                    );
                    problems.require(known, &key, name, &message);
                }
            }
        }
    }

    /// Every named teacher, ensemble and route is used.
    fn validate_use(&self, problems: &mut Problems) {
        let names = self.teacher_names();
        let terms: Vec<_> = self.loss_terms().collect();
        let soft = terms
            .iter()
            .filter(|it| it.term.needs().soft_targets.is_some());
        let mut used = BTreeSet::new();
        for term in soft {
            match term.term.teacher.as_deref() {
                Some(name) => {
                    used.insert(name);
                }
                None if names.len() == 1 => used.extend(&names),
                None => {}
            }
        }
        for (table, combined) in [
            ("ensembles", keys(&self.ensembles)),
            ("routes", keys(&self.routes)),
        ] {
            for name in combined {
                let key = format!("{table}.{name}");
                problems.require(used.contains(name), &key, "{…}", "is not used by any term");
            }
        }
        for ensemble in self.ensembles.values() {
            used.extend(ensemble.teachers.keys().map(String::as_str));
        }
        for route in self.routes.values() {
            used.extend(route.teachers.keys().map(String::as_str));
            used.insert(&*route.default);
        }
        for name in names {
            let key = format!("teachers.{name}");
            let message = "is not used by any term, ensemble or route: name it, or remove it";
            problems.require(used.contains(name), &key, "{…}", message);
        }
    }

    /// Checks that the encodings in use have what the losses need.
    pub(in crate::config) fn validate_encodings(&self, problems: &mut Problems) {
        let terms: Vec<_> = self.loss_terms().collect();
        for teacher in self.all_teachers() {
            let Some(pool) = teacher.pool.filter(|_| self.needs_teacher()) else {
                continue;
            };
            let key = format!("{}.encoding", teacher.table());
            for term in &terms {
                let uses = self.teachers_of(&term.term);
                if uses.is_some_and(|it| it.positions().contains(&teacher.position)) {
                    let unmet = self.unmet_need(term, pool.encoding);
                    term.validate_encoding(unmet, &key, pool.encoding, problems);
                }
            }
        }
        let recording = self.soft_targets.as_ref();
        let recording = recording.filter(|targets| targets.mode != SoftTargetsMode::Live);
        if let Some(encoding) = recording.and_then(|targets: &SoftTargetsConfig| targets.encoding) {
            for term in &terms {
                let unmet = self.unmet_need(term, encoding);
                term.validate_encoding(unmet, "soft_targets.encoding", encoding, problems);
            }
        }
    }
}

fn keys<V>(table: &BTreeMap<String, V>) -> Vec<&str> {
    table.keys().map(String::as_str).collect()
}

fn list(names: &[&str]) -> String {
    if names.is_empty() {
        return "none".to_owned();
    }
    names.join(", ")
}
