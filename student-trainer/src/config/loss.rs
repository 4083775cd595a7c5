//! The loss of a phase: one term, or a weighted sum of terms.

use std::fmt;

use common::config::{Problems, is_default};
use serde::{
    Deserialize, Deserializer, Serialize,
    de::{
        MapAccess, SeqAccess, Visitor,
        value::{MapAccessDeserializer, SeqAccessDeserializer},
    },
};
use soft_targets::Encoding;

mod kind;
mod unmet_need;

pub use kind::{DistConfig, DkdConfig, LossKind, RldConfig};
pub use unmet_need::UnmetNeed;

/// The loss of a phase. `engine::loss` has the formulas.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
pub enum LossConfig {
    /// A table: `loss = { kind = "kd", temperature = 4, alpha = 0.9 }`.
    Single(LossTerm),
    /// A list of tables, whose weighted terms are added.
    Sum(Vec<LossTerm>),
}

/// One term of a loss: a mean over the batch.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LossTerm {
    /// Formula and parameters.
    #[serde(flatten)]
    pub kind: LossKind,
    /// Factor of the term, above 0.
    #[serde(default = "default_weight", skip_serializing_if = "is_default_weight")]
    pub weight: f64,
    /// Whether the logits of student and teacher are standardized for this term: Sun et al., CVPR 2024, "Logit
    /// Standardization in Knowledge Distillation".
    #[serde(default, skip_serializing_if = "is_default")]
    pub standardize: bool,
    /// The teacher that it learns from, or the ensemble or route of teachers; not needed if the run has one teacher.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub teacher: Option<String>,
}

/// What a term needs besides the student's logits.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Needs {
    /// The hard label of every sample.
    pub labels: bool,
    /// Soft targets, with these classes.
    pub soft_targets: Option<TargetClasses>,
}

/// The classes that soft targets hold. A later variant serves a term that needs an earlier one.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum TargetClasses {
    /// Classes drawn from the teacher's probabilities at the temperature of the term, as with sampled encodings.
    /// They serve terms whose gradient is linear in these probabilities.
    Drawn {
        /// The temperature of the term.
        temperature: f64,
    },
    /// Some, with their logits, as with top-k encodings; a tail bucket summarizes the others.
    Kept,
    /// All, with their logits.
    All,
}

/// A term, and the key of its table: `phases[0].loss[1]`.
#[derive(Debug, Clone, PartialEq)]
pub struct NamedTerm {
    /// Key in the run's configuration.
    pub key: String,
    /// The term.
    pub term: LossTerm,
}

impl LossConfig {
    /// The terms whose weighted sum is the loss. `kd` outside of a list is two terms, unless α is 1.
    pub fn terms(&self) -> Vec<LossTerm> {
        let term = match self {
            Self::Sum(terms) => return terms.clone(),
            Self::Single(term) => term,
        };
        let LossKind::Kd {
            temperature,
            alpha: Some(alpha),
        } = term.kind
        else {
            return vec![term.clone()];
        };
        let soft = LossTerm {
            kind: LossKind::Kd {
                temperature,
                alpha: None,
            },
            weight: term.weight * alpha,
            standardize: term.standardize,
            teacher: term.teacher.clone(),
        };
        let hard = LossTerm {
            kind: LossKind::CrossEntropy {
                label_smoothing: 0.0,
            },
            weight: term.weight * (1.0 - alpha),
            standardize: false,
            teacher: None,
        };
        if alpha < 1.0 {
            vec![soft, hard]
        } else {
            vec![soft]
        }
    }

    /// The terms of the loss of phase `phase` with their keys.
    pub fn named_terms(&self, phase: usize) -> impl Iterator<Item = NamedTerm> {
        let is_list = matches!(self, Self::Sum(_));
        let terms = self.terms().into_iter().enumerate();
        terms.map(move |(index, term)| NamedTerm {
            key: if is_list {
                format!("phases[{phase}].loss[{index}]")
            } else {
                format!("phases[{phase}].loss")
            },
            term,
        })
    }

    /// Whether a term needs the hard label of every sample.
    pub fn needs_labels(&self) -> bool {
        self.terms().iter().any(|term| term.needs().labels)
    }

    /// Whether a term needs a teacher's soft targets.
    pub fn needs_soft_targets(&self) -> bool {
        let terms = self.terms();
        terms.iter().any(|term| term.needs().soft_targets.is_some())
    }

    pub(super) fn validate(&self, key: &str, problems: &mut Problems) {
        match self {
            Self::Single(term) => {
                term.validate(key, problems);
                let LossKind::Kd { alpha, .. } = term.kind else {
                    return;
                };
                let key = format!("{key}.alpha");
                if let Some(alpha) = alpha {
                    let fits = (0.0..=1.0).contains(&alpha);
                    problems.require(fits, &key, alpha, "must be from 0 to 1");
                } else {
                    let message = "is missing: it is the weight of the soft term, 0 to 1";
                    problems.add(key, "(none)", message);
                }
            }
            Self::Sum(terms) => {
                problems.require(!terms.is_empty(), key, "[]", "needs at least one term");
                for (index, term) in terms.iter().enumerate() {
                    let key = format!("{key}[{index}]");
                    term.validate(&key, problems);
                    if let LossKind::Kd {
                        alpha: Some(alpha), ..
                    } = term.kind
                    {
                        let message = "is not allowed in a list: give this term a weight, and add a term of kind \
                                       \"cross_entropy\" with the rest";
                        problems.add(format!("{key}.alpha"), alpha, message);
                    }
                }
            }
        }
    }
}

impl<'de> Deserialize<'de> for LossConfig {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        /// Instead of `#[serde(untagged)]`, whose errors do not say what is wrong.
        struct TableOrList;

        impl<'de> Visitor<'de> for TableOrList {
            type Value = LossConfig;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a table or a list of tables")
            }

            fn visit_map<A: MapAccess<'de>>(self, table: A) -> Result<LossConfig, A::Error> {
                LossTerm::deserialize(MapAccessDeserializer::new(table)).map(LossConfig::Single)
            }

            fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<LossConfig, A::Error> {
                Vec::deserialize(SeqAccessDeserializer::new(list)).map(LossConfig::Sum)
            }
        }

        deserializer.deserialize_any(TableOrList)
    }
}

impl LossTerm {
    /// What the term needs besides the student's logits.
    pub fn needs(&self) -> Needs {
        let mut needs = self.kind.needs();
        if self.standardize && needs.soft_targets.is_some() {
            // Mean and deviation are over all classes.
            needs.soft_targets = Some(TargetClasses::All);
        }
        needs
    }

    fn validate(&self, key: &str, problems: &mut Problems) {
        problems.require_positive(&format!("{key}.weight"), self.weight);
        let fits = !self.standardize || self.kind.needs().soft_targets.is_some();
        let message = "is allowed for terms with soft targets only";
        problems.require(fits, &format!("{key}.standardize"), true, message);
        if let (Some(teacher), None) = (&self.teacher, self.kind.needs().soft_targets) {
            problems.add(format!("{key}.teacher"), teacher, message);
        }
        self.kind.validate(key, problems);
    }
}

impl NamedTerm {
    /// Kind of the term: `dkd`, or `kd, standardized`.
    pub fn kind(&self) -> String {
        let kind = self.term.kind.as_str();
        if self.term.standardize {
            format!("{kind}, standardized")
        } else {
            kind.to_owned()
        }
    }

    /// Adds a problem if the term has no value for samples that are mixed with others.
    pub(super) fn validate_mixing(&self, problems: &mut Problems) {
        let message = "treats the class of the label unlike the others, but samples that \
                       data.augmentation.mixup or cutmix mix have two labels; remove one or the other";
        let fits = !self.term.kind.needs_one_label();
        problems.require(fits, &self.key, self.kind(), message);
    }

    /// Adds a problem if `encoding`, the value of `encoding_key`, does not have what the term needs: `unmet`.
    pub(super) fn validate_encoding(
        &self,
        unmet: Option<UnmetNeed>,
        encoding_key: &str,
        encoding: Encoding,
        problems: &mut Problems,
    ) {
        let Some(UnmetNeed {
            needed,
            found,
            instead,
        }) = unmet
        else {
            return;
        };
        let message =
            format!("needs {needed}, but {encoding_key} = {encoding} {found}; use {instead}");
        problems.add(self.key.clone(), self.kind(), &message);
    }
}

impl fmt::Display for NamedTerm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.key, self.kind())
    }
}

fn default_weight() -> f64 {
    1.0
}

fn is_default_weight(weight: &f64) -> bool {
    *weight == default_weight()
}

#[cfg(test)]
mod tests;
