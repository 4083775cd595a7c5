//! A teacher's classes as groups of its model's classes.

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
};

use common::config::Problems;
use serde::{Deserialize, Serialize};

/// The teacher's classes by name, each with the classes of the model that it stands for.
///
/// The logit of a group is the log-sum-exp of its classes' logits, so a softmax over the groups gives
/// each group the sum of its classes' probabilities, divided by the sum over all groups: classes that
/// are in no group are as if the model had never known them.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(transparent)]
pub struct ClassMap(BTreeMap<String, Vec<ClassMember>>);

/// One or several classes of the model.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(untagged)]
pub enum ClassMember {
    /// A position, from 0.
    Position(u32),
    /// Positions `"7-24"`, a position `"281"`, or the name of a class.
    Text(String),
}

/// Why the groups do not fit the model.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("model.classes.{group}: {problem}")]
pub struct ClassMapError {
    group: String,
    problem: String,
}

/// The groups as positions of the model's classes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ClassGroups {
    /// Names of the groups, in alphabetical order.
    #[serde(skip)]
    pub names: Vec<String>,
    /// Ascending positions of each group's classes.
    pub members: Vec<Vec<u32>>,
}

impl ClassMap {
    /// Whether there are no groups.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn validate(&self, problems: &mut Problems) {
        if self.0.len() == 1 {
            let only = self.0.keys().next().map_or("", String::as_str);
            problems.add("model.classes", only, "must name two or more classes");
        }
        for (name, members) in &self.0 {
            problems.require(
                !members.is_empty(),
                &format!("model.classes.{name}"),
                "[]",
                "must name a class of the model, for example [\"281-285\"]",
            );
        }
    }

    /// Looks up the groups among the classes of the model, in logit order.
    ///
    /// # Errors
    /// [`ClassMapError`] if a class does not exist, or is in two groups.
    pub fn resolve(&self, class_names: &[String]) -> Result<ClassGroups, ClassMapError> {
        let mut owners: HashMap<u32, &str> = HashMap::new();
        let mut members = Vec::new();
        for (group, texts) in &self.0 {
            let refused = |problem: String| ClassMapError {
                group: group.clone(),
                problem,
            };
            let mut positions = Vec::new();
            for text in texts {
                let found = text.positions(class_names).map_err(refused)?;
                for position in found {
                    if let Some(owner) = owners.insert(position, group) {
                        let name = &class_names[position as usize];
                        return Err(refused(format!(
                            "class {position} (`{name}`) is in `{owner}` already"
                        )));
                    }
                    positions.push(position);
                }
            }
            positions.sort_unstable();
            members.push(positions);
        }
        Ok(ClassGroups {
            names: self.0.keys().cloned().collect(),
            members,
        })
    }
}

impl ClassMember {
    fn positions(&self, class_names: &[String]) -> Result<Vec<u32>, String> {
        let count = class_names.len();
        let (first, last) = match self {
            Self::Position(position) => (*position, *position),
            Self::Text(text) => match range(text) {
                Some(range) => range,
                None => {
                    let named = class_names.iter().position(|name| name == text);
                    let named = named.and_then(|position| u32::try_from(position).ok());
                    let position =
                        named.ok_or_else(|| format!("the model has no class `{text}`"))?;
                    (position, position)
                }
            },
        };
        if first > last {
            return Err(format!("{self} runs backwards"));
        }
        if last as usize >= count {
            return Err(format!(
                "{self} leaves the model's classes, 0 to {}",
                count.saturating_sub(1)
            ));
        }
        Ok((first..=last).collect())
    }
}

/// Reads `281` or `7-24`.
fn range(text: &str) -> Option<(u32, u32)> {
    let number = |text: &str| text.trim().parse().ok();
    match text.split_once('-') {
        Some((first, last)) => Some((number(first)?, number(last)?)),
        None => number(text).map(|position| (position, position)),
    }
}

impl fmt::Display for ClassMember {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Position(position) => position.fmt(f),
            Self::Text(text) => f.write_str(text),
        }
    }
}

impl ClassGroups {
    /// Computes the groups' logits from the model's, row-major [samples, classes].
    pub fn apply(&self, logits: &[f32], classes: usize) -> Vec<f32> {
        let rows = logits.chunks_exact(classes.max(1));
        let groups = rows.flat_map(|row| self.members.iter().map(move |group| (row, group)));
        groups
            .map(|(row, group)| log_sum_exp(group.iter().map(|class| row[*class as usize])))
            .collect()
    }
}

/// ln Σ exp(x), computed in f64 relative to the largest value.
fn log_sum_exp(values: impl Iterator<Item = f32> + Clone) -> f32 {
    let largest = values.clone().fold(f32::NEG_INFINITY, f32::max);
    if !largest.is_finite() {
        return largest;
    }
    let sum: f64 = values.map(|value| f64::from(value - largest).exp()).sum();
    (f64::from(largest) + sum.ln()) as f32
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(text: &str) -> ClassMap {
        toml::from_str(text).unwrap()
    }

    fn names() -> Vec<String> {
        ["tench", "cock", "hen", "tabby", "beagle", "2-in-1"]
            .map(str::to_owned)
            .to_vec()
    }

    #[test]
    fn groups_are_positions_ranges_and_names() {
        let map = map("dog = [\"beagle\"]\nbird = [\"1-2\"]\nother = [0, \"2-in-1\", \"3\"]");
        let groups = map.resolve(&names()).unwrap();
        assert_eq!(groups.names, ["bird", "dog", "other"]);
        assert_eq!(groups.members, [vec![1, 2], vec![4], vec![0, 3, 5]]);
    }

    #[test]
    fn groups_that_do_not_fit_are_named() {
        for (text, named) in [
            (
                "a = [\"1-2\"]\nb = [2]",
                "model.classes.b: class 2 (`hen`) is in `a` already",
            ),
            ("a = [\"4-6\"]", "4-6 leaves the model's classes, 0 to 5"),
            ("a = [\"2-1\"]", "2-1 runs backwards"),
            ("a = [\"cat\"]", "no class `cat`"),
            ("a = [6]", "6 leaves"),
        ] {
            let error = map(text).resolve(&names()).unwrap_err().to_string();
            assert!(error.contains(named), "{error}");
        }
        let mut problems = Problems::default();
        map("a = []").validate(&mut problems);
        assert_eq!(problems.iter().count(), 2);
    }

    #[test]
    fn a_group_has_the_probability_of_its_classes() {
        let logits = [1.0_f32, 2.0, 0.5, -3.0, 4.0, 0.0];
        let groups = map("a = [\"0-1\"]\nb = [4, 5]").resolve(&names()).unwrap();
        let found = groups.apply(&[logits, logits].concat(), 6);
        assert_eq!(found[..2], found[2..]);
        let odds = f64::from(found[0] - found[1]).exp();
        let exp = logits.map(|logit| f64::from(logit).exp());
        let expected = (exp[0] + exp[1]) / (exp[4] + exp[5]);
        assert!(
            (odds - expected).abs() < 1e-6 * expected,
            "{odds} {expected}"
        );
        // Large logits do not overflow; a group of one keeps its logit.
        let one = map("a = [0]\nb = [1]").resolve(&names()).unwrap();
        let large = [500.25_f32, -500.5, 0.0, 0.0, 0.0, 0.0];
        assert_eq!(one.apply(&large, 6), [500.25, -500.5]);
    }
}
