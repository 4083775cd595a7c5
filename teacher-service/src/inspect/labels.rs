//! Which class of a model each class of the data is.

use std::collections::HashMap;

use serde::Serialize;

use super::assignment;

/// The model's class for each class of the data.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ClassMatch {
    /// How the classes were matched.
    pub by: MatchedBy,
    /// Position of the model's class for each class of the data; `None` if the model does not have it.
    pub model_class: Vec<Option<usize>>,
    /// Names of the data's classes that the model does not have.
    pub missing: Vec<String>,
}

/// How the classes of data and model were matched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum MatchedBy {
    /// By their names.
    Name,
    /// By their positions, because their names differ and their number is the same.
    Position,
    /// Not at all.
    Nothing,
}

/// Fewest samples for each class from which a permutation of the classes can be read.
const SAMPLES_PER_CLASS: usize = 4;

impl ClassMatch {
    /// Matches by names, as training does; by positions if no name of the data is a name of the model.
    pub(super) fn of(data: &[String], model: &[String]) -> Self {
        let positions: HashMap<&str, usize> = model
            .iter()
            .enumerate()
            .map(|(at, name)| (&**name, at))
            .collect();
        let by_name: Vec<_> = data
            .iter()
            .map(|name| positions.get(&**name).copied())
            .collect();
        let known = by_name.iter().flatten().count();
        let (by, model_class) = match known {
            0 if data.len() == model.len() => {
                (MatchedBy::Position, (0..model.len()).map(Some).collect())
            }
            0 => (MatchedBy::Nothing, by_name),
            _ => (MatchedBy::Name, by_name),
        };
        let missing = data
            .iter()
            .zip(&model_class)
            .filter(|(_, class)| class.is_none());
        Self {
            missing: missing.map(|(name, _)| name.clone()).collect(),
            by,
            model_class,
        }
    }

    /// The model's class for a label of the data.
    pub(super) fn class(&self, label: u32) -> Option<usize> {
        self.model_class.get(label as usize).copied().flatten()
    }

    /// Every class moved by `step` positions, around the end of the model's `classes`.
    pub(super) fn shifted(&self, step: isize, classes: usize) -> Self {
        let moved = |class: usize| (class as isize + step).rem_euclid(classes as isize) as usize;
        Self {
            model_class: self
                .model_class
                .iter()
                .map(|class| class.map(moved))
                .collect(),
            ..self.clone()
        }
    }

    /// The classes that fit `predictions` best, each class of the model once: `None` if there are too few samples,
    /// or more classes than the model has.
    pub(super) fn fitted(
        &self,
        labels: &[u32],
        predictions: &[usize],
        classes: usize,
    ) -> Option<Self> {
        let own = self.model_class.len();
        if own > classes || labels.len() < SAMPLES_PER_CLASS * own {
            return None;
        }
        let mut counts = vec![vec![0; classes]; own];
        for (label, prediction) in labels.iter().zip(predictions) {
            // Twice, so that the class that the names say wins a tie.
            counts[*label as usize][*prediction] += 2;
        }
        for (row, class) in counts.iter_mut().zip(&self.model_class) {
            if let Some(class) = class {
                row[*class] += 1;
            }
        }
        let model_class = assignment::best(&counts).into_iter().map(Some).collect();
        Some(Self {
            model_class,
            ..self.clone()
        })
    }

    /// The names of the model's outputs under this match. Outputs that are no class of the data keep their names
    /// as far as these are free.
    pub(super) fn output_names(&self, data: &[String], model: &[String]) -> Vec<String> {
        let mut names: Vec<Option<&String>> = vec![None; model.len()];
        for (name, class) in data.iter().zip(&self.model_class) {
            if let Some(class) = class {
                names[*class] = Some(name);
            }
        }
        let spare: Vec<&String> = model.iter().filter(|name| !data.contains(name)).collect();
        for (name, own) in names.iter_mut().zip(model) {
            if name.is_none() && spare.contains(&own) {
                *name = Some(own);
            }
        }
        let unused: Vec<&String> = spare
            .into_iter()
            .filter(|own| !names.contains(&Some(own)))
            .collect();
        let mut unused = unused.into_iter();
        let named = names.into_iter().enumerate().map(|(position, name)| {
            let name = name.or_else(|| unused.next());
            name.cloned().unwrap_or_else(|| format!("class {position}"))
        });
        named.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn classes_are_matched_by_name_or_else_by_position() {
        let data = names(&["cat", "dog"]);
        for (model, by, classes) in [
            (&["dog", "cat"][..], MatchedBy::Name, [Some(1), Some(0)]),
            (&["x", "dog", "y"], MatchedBy::Name, [None, Some(1)]),
            (&["0", "1"], MatchedBy::Position, [Some(0), Some(1)]),
            (&["0", "1", "2"], MatchedBy::Nothing, [None, None]),
        ] {
            let found = ClassMatch::of(&data, &names(model));
            assert_eq!(
                (found.by, &found.model_class[..]),
                (by, &classes[..]),
                "{model:?}"
            );
            assert_eq!(
                found.missing.len(),
                classes.iter().filter(|it| it.is_none()).count()
            );
        }
    }

    #[test]
    fn a_shift_goes_around_and_names_the_outputs() {
        let data = names(&["a", "b", "c"]);
        let own = ClassMatch::of(&data, &data);
        let next = own.shifted(1, 3);
        assert_eq!(next.model_class, [Some(1), Some(2), Some(0)]);
        assert_eq!(next.output_names(&data, &data), ["c", "a", "b"]);
        assert_eq!(next.shifted(-1, 3), own);
        // ImageNet with and without a first class for the background.
        let model = names(&["background", "a", "b", "c"]);
        assert_eq!(
            ClassMatch::of(&data, &model).output_names(&data, &model),
            model
        );
        let moved = ClassMatch::of(&data, &model).shifted(-1, 4);
        assert_eq!(
            moved.output_names(&data, &model),
            ["a", "b", "c", "background"]
        );
    }

    #[test]
    fn a_permutation_is_read_from_enough_samples() {
        let data = names(&["a", "b", "c"]);
        let own = ClassMatch::of(&data, &data);
        let labels = [0, 1, 2].repeat(5);
        let predictions: Vec<usize> = labels
            .iter()
            .map(|label| [2, 0, 1][*label as usize])
            .collect();
        let fitted = own.fitted(&labels, &predictions, 3).unwrap();
        assert_eq!(fitted.model_class, [Some(2), Some(0), Some(1)]);
        assert_eq!(fitted.output_names(&data, &data), ["b", "c", "a"]);
        assert_eq!(own.fitted(&labels[..6], &predictions[..6], 3), None);
        assert_eq!(own.fitted(&labels, &predictions, 2), None);
    }
}
