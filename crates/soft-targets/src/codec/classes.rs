//! Matches a teacher's classes with those of the data by name.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use common::digest::Sha256;

use super::{Encoding, Parts, SoftTargets, encoding::push_class};

/// Number of names that an error lists of each side, and of letters of each name.
const NAMES_SHOWN: usize = 5;
const LETTERS_SHOWN: usize = 40;

/// How a teacher's classes match those of the data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClassMatch {
    /// The same names in the same order.
    Same,
    /// The same number, but one side has no names: whether they mean the same is unknown.
    Unnamed,
    /// The same names in another order.
    Reordered(ClassOrder),
}

/// The position of each class of the data in a teacher's logits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClassOrder {
    /// The teacher's class, by class of the data.
    teacher_class: Vec<u32>,
    /// The inverse: the class of the data, by the teacher's class.
    data_class: Vec<u32>,
}

/// The classes of a teacher are not those of the data; the text lists those that only one side has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClassesDiffer {
    teacher: Vec<String>,
    data: Vec<String>,
}

impl ClassMatch {
    /// Compares the names of a teacher's classes, in the order of its logits, with those of the data, in the
    /// order of its labels.
    ///
    /// # Errors
    /// If their numbers or names differ, or if duplicate names cannot be distinguished.
    pub fn of(teacher: &[String], data: &[String]) -> Result<Self, ClassesDiffer> {
        let differ = || ClassesDiffer {
            teacher: teacher.to_vec(),
            data: data.to_vec(),
        };
        if teacher.len() != data.len() {
            return Err(differ());
        }
        if teacher == data {
            return Ok(Self::Same);
        }
        let unnamed = |names: &[String]| names.iter().all(|name| name.trim().is_empty());
        if unnamed(teacher) || unnamed(data) {
            return Ok(Self::Unnamed);
        }
        let positions: BTreeMap<&str, u32> =
            (0..).zip(teacher).map(|(at, name)| (&**name, at)).collect();
        let position = |name: &String| positions.get(name.as_str()).copied();
        let found: Option<Vec<u32>> = data.iter().map(position).collect();
        let order = found.and_then(ClassOrder::new);
        order.map(Self::Reordered).ok_or_else(differ)
    }
}

impl ClassOrder {
    /// `None` if a class is named twice.
    fn new(teacher_class: Vec<u32>) -> Option<Self> {
        let mut data_class = vec![None; teacher_class.len()];
        for (data, teacher) in (0..).zip(&teacher_class) {
            if data_class[*teacher as usize].replace(data).is_some() {
                return None;
            }
        }
        Some(Self {
            data_class: data_class.into_iter().collect::<Option<_>>()?,
            teacher_class,
        })
    }

    /// SHA-256 of the positions, u32 little-endian: two runs with the same data and the same digest
    /// reorder a teacher's logits alike.
    pub fn digest(&self) -> Sha256 {
        let bytes: Vec<u8> = self
            .teacher_class
            .iter()
            .flat_map(|class| class.to_le_bytes())
            .collect();
        Sha256::of(&bytes)
    }
}

impl SoftTargets {
    /// The same values with the classes in the order of the data. Each value keeps its bits.
    ///
    /// # Panics
    /// If `order` has another number of classes.
    pub fn reordered(&self, order: &ClassOrder) -> Self {
        assert_eq!(self.classes, order.teacher_class.len());
        let parts = match self.encoding {
            Encoding::Dense(values) => Parts {
                logits: self.reorder_dense(order, values.bytes()).into(),
                ..Parts::default()
            },
            Encoding::TopK { values, .. } => self.reorder_kept(order, values.bytes()),
            Encoding::Sampled(_) => self.reorder_drawn(order),
        };
        Self { parts, ..*self }
    }

    fn reorder_dense(&self, order: &ClassOrder, value_bytes: usize) -> Vec<u8> {
        let mut logits = Vec::with_capacity(self.parts.logits.len());
        for row in self.parts.logits.chunks_exact(self.classes * value_bytes) {
            for class in &order.teacher_class {
                let start = *class as usize * value_bytes;
                logits.extend_from_slice(&row[start..start + value_bytes]);
            }
        }
        logits
    }

    /// Sorts the kept classes of each row again. The tail bucket does not depend on the order.
    fn reorder_kept(&self, order: &ClassOrder, value_bytes: usize) -> Parts {
        let kept = self.kept();
        let classes: Vec<u32> = self.kept_classes().collect();
        let mut logits = Vec::with_capacity(self.parts.logits.len());
        let mut kept_classes = Vec::with_capacity(self.parts.kept_classes.len());
        let mut row: Vec<(u32, &[u8])> = Vec::with_capacity(kept);
        let values = self.parts.logits.chunks_exact(kept * value_bytes);
        for (classes, values) in classes.chunks_exact(kept).zip(values) {
            let renamed = classes
                .iter()
                .map(|class| order.data_class[*class as usize]);
            row.clear();
            row.extend(renamed.zip(values.chunks_exact(value_bytes)));
            row.sort_unstable_by_key(|(class, _)| *class);
            for (class, value) in &row {
                logits.extend_from_slice(value);
                push_class(&mut kept_classes, *class, self.classes);
            }
        }
        Parts {
            logits: logits.into(),
            kept_classes: kept_classes.into(),
            tail_buckets: self.parts.tail_buckets.clone(),
        }
    }

    /// Sorts the drawn classes of each row again.
    fn reorder_drawn(&self, order: &ClassOrder) -> Parts {
        let renamed = self
            .kept_classes()
            .map(|class| order.data_class[class as usize]);
        let mut renamed: Vec<u32> = renamed.collect();
        let mut drawn_classes = Vec::with_capacity(self.parts.kept_classes.len());
        for row in renamed.chunks_exact_mut(self.kept()) {
            row.sort_unstable();
            for class in row {
                push_class(&mut drawn_classes, *class, self.classes);
            }
        }
        Parts {
            kept_classes: drawn_classes.into(),
            ..Parts::default()
        }
    }
}

impl ClassesDiffer {
    /// Lists the classes that only one side has. The teacher's side is called `first`, the data's `second`.
    pub fn lists(&self, first: &str, second: &str) -> String {
        let only = |these: &[String], others: &[String]| {
            let others: BTreeSet<&String> = others.iter().collect();
            let only = these.iter().filter(|name| !others.contains(name));
            shown(only.map(String::as_str))
        };
        let (teacher, data) = (&self.teacher, &self.data);
        match (only(teacher, data), only(data, teacher)) {
            (None, None) => "several classes have the same name".to_owned(),
            (teacher, data) => {
                let none = || "none".to_owned();
                let (teacher, data) = (teacher.unwrap_or_else(none), data.unwrap_or_else(none));
                format!("only {first} has {teacher}; only {second} has {data}")
            }
        }
    }
}

impl fmt::Display for ClassesDiffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (teacher, data) = (self.teacher.len(), self.data.len());
        if teacher != data {
            return write!(f, "knows {teacher} classes, but the run's data have {data}");
        }
        let lists = self.lists("the teacher", "the data");
        write!(f, "knows other classes than the run's data: {lists}")
    }
}

impl std::error::Error for ClassesDiffer {}

/// The first of `names` and the number of the others; `None` if there are none.
fn shown<'n>(names: impl Iterator<Item = &'n str>) -> Option<String> {
    let names: Vec<&str> = names.collect();
    let first: Vec<String> = names
        .iter()
        .take(NAMES_SHOWN)
        .map(|name| format!("{:?}", name.chars().take(LETTERS_SHOWN).collect::<String>()))
        .collect();
    match names.len().saturating_sub(NAMES_SHOWN) {
        _ if names.is_empty() => None,
        0 => Some(first.join(", ")),
        more => Some(format!("{} and {more} more", first.join(", "))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{DrawSeeds, Encoder, ValueType};

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(ToString::to_string).collect()
    }

    fn order(teacher: &[&str], data: &[&str]) -> ClassOrder {
        match ClassMatch::of(&names(teacher), &names(data)) {
            Ok(ClassMatch::Reordered(order)) => order,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn classes_are_compared_by_name() {
        let same = ClassMatch::of(&names(&["a", "b"]), &names(&["a", "b"]));
        assert_eq!(same, Ok(ClassMatch::Same));
        // Names that are given twice mean nothing else where the order is the same.
        let twice = ClassMatch::of(&names(&["a", "a"]), &names(&["a", "a"]));
        assert_eq!(twice, Ok(ClassMatch::Same));
        let unnamed = ClassMatch::of(&names(&["", " "]), &names(&["a", "b"]));
        assert_eq!(unnamed, Ok(ClassMatch::Unnamed));
        for (teacher, data, parts) in [
            (
                &["a", "b", "c"][..],
                &["a", "b"][..],
                &["3 classes", "data have 2"][..],
            ),
            (
                &["a", "x"],
                &["a", "b"],
                &["only the teacher has \"x\"", "only the data has \"b\""],
            ),
            (
                &["a", "b", "a"],
                &["b", "a", "b"],
                &["several classes have the same name"],
            ),
            (
                &["a", "b", "b"],
                &["a", "b", "c"],
                &["the teacher has none", "only the data has \"c\""],
            ),
        ] {
            let error = ClassMatch::of(&names(teacher), &names(data))
                .unwrap_err()
                .to_string();
            for part in parts {
                assert!(error.contains(part), "{part} is not in: {error}");
            }
        }
        let many: Vec<String> = (0..21_841)
            .map(|class| "n".repeat(100) + &class.to_string())
            .collect();
        let others: Vec<String> = (0..21_841).map(|class| format!("m{class}")).collect();
        let error = ClassMatch::of(&many, &others).unwrap_err().to_string();
        assert!(
            error.contains("and 21836 more") && error.len() < 1000,
            "{error}"
        );
    }

    #[test]
    fn logits_follow_their_class_in_every_encoding() {
        let teacher = ["a", "b", "c", "d", "e"];
        let data = ["c", "e", "a", "d", "b"];
        let order = order(&teacher, &data);
        let logits = [0.5, 4.0, -1.0, 3.0, 2.0, 9.0, -8.0, 7.0, 6.0, -5.0];
        let expected = [-1.0, 2.0, 0.5, 3.0, 4.0, 7.0, -5.0, 9.0, 6.0, -8.0];
        let values = [ValueType::F32, ValueType::F16];
        let encodings = values
            .into_iter()
            .flat_map(|values| [1, 2, 3, 5, 9].map(|k| Encoding::TopK { k, values }))
            .chain(values.map(Encoding::Dense));
        for encoding in encodings {
            let mut encoder = Encoder::default();
            let reordered = encoder
                .encode(encoding, &logits, 5)
                .unwrap()
                .reordered(&order);
            // Classes rise and lengths fit, as if the teacher had had this order.
            let parts = reordered.parts().clone();
            let reordered = SoftTargets::new(encoding, 2, 5, parts).unwrap();
            let as_expected = encoder.encode(encoding, &expected, 5).unwrap();
            let pairs = |targets: &SoftTargets| {
                targets
                    .kept_classes()
                    .zip(targets.logits())
                    .collect::<Vec<_>>()
            };
            assert_eq!(pairs(&reordered), pairs(&as_expected), "{encoding}");
            let buckets = |targets: &SoftTargets| {
                targets
                    .tail_buckets()
                    .map(|bucket| bucket.mean_logit)
                    .sum::<f32>()
            };
            assert!(
                (buckets(&reordered) - buckets(&as_expected)).abs() < 1e-5,
                "{encoding}"
            );
        }
    }

    #[test]
    fn drawn_classes_follow_their_name() {
        let teacher = ["a", "b", "c", "d", "e"];
        let data = ["c", "e", "a", "d", "b"];
        let order = order(&teacher, &data);
        let encoding = "sampled-9".parse().unwrap();
        let view = datasets::View::Fixed { seed: 1, view: 0 };
        let seeds = DrawSeeds::of(encoding, view, 0..2);
        let logits = [0.5, 1.0, -1.0, 1.5, 2.0, 2.0, -1.0, 1.0, 0.5, 0.0];
        let targets = Encoder::default().encode_with_seeds(encoding, &logits, 5, &seeds);
        let targets = targets.unwrap();
        let reordered = targets.reordered(&order);
        let parts = reordered.parts().clone();
        assert_eq!(
            SoftTargets::new(encoding, 2, 5, parts).as_ref(),
            Ok(&reordered)
        );
        let names = |targets: &SoftTargets, names: [&'static str; 5]| {
            let names = targets.kept_classes().map(|class| names[class as usize]);
            let names: Vec<&str> = names.collect();
            let (first, second) = names.split_at(9);
            [first, second].map(|row| {
                let mut row = row.to_vec();
                row.sort_unstable();
                row
            })
        };
        assert_eq!(names(&reordered, data), names(&targets, teacher));
        assert_ne!(reordered, targets);
    }

    #[test]
    fn a_digest_tells_orders_apart() {
        let first = order(&["a", "b", "c"], &["b", "a", "c"]).digest();
        assert_eq!(first, order(&["x", "y", "z"], &["y", "x", "z"]).digest());
        assert_ne!(first, order(&["a", "b", "c"], &["c", "b", "a"]).digest());
    }
}
