//! What a term of a loss needs, and soft targets in some encoding do not have.

use soft_targets::{Encoding, Sampling};

use super::TargetClasses;

/// What a term needs, and an encoding does not have; parts of a sentence for the user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnmetNeed {
    /// What the term needs: `the teacher's logits of all classes`.
    pub needed: String,
    /// What the encoding does instead: `keeps 8 of 100`.
    pub found: String,
    /// Encodings that have what the term needs: `"f32" or "f16"`.
    pub instead: String,
}

impl UnmetNeed {
    /// Compares what a term needs with what `encoding` has of `classes` classes; `None` if it has all of it.
    pub(in crate::config) fn of(
        needed: TargetClasses,
        encoding: Encoding,
        classes: usize,
    ) -> Option<Self> {
        let new = |needed: &str, found, instead: &str| {
            Some(Self {
                needed: needed.to_owned(),
                found,
                instead: instead.to_owned(),
            })
        };
        let draws = || "has drawn classes and no logits".to_owned();
        let kept = encoding.kept(classes);
        match (needed, encoding) {
            (TargetClasses::Drawn { temperature }, Encoding::Sampled(sampling)) => {
                Self::of_temperature(temperature, sampling)
            }
            (TargetClasses::Kept, Encoding::Sampled(_)) => {
                new("the teacher's logits", draws(), WITH_LOGITS)
            }
            (TargetClasses::All, Encoding::Sampled(_)) => new(ALL_LOGITS, draws(), WITH_ALL_LOGITS),
            (TargetClasses::All, Encoding::TopK { .. }) if kept < classes => {
                let found = format!("keeps {kept} of {classes}");
                new(ALL_LOGITS, found, WITH_ALL_LOGITS)
            }
            (_, Encoding::Dense(_) | Encoding::TopK { .. }) => None,
        }
    }

    /// Classes that were drawn at another temperature than that of the term would estimate other probabilities.
    fn of_temperature(needed: f64, sampling: Sampling) -> Option<Self> {
        let drawn = sampling.temperature;
        if f64::from(drawn) == needed {
            return None;
        }
        let mut whole = 1..=Sampling::MAX_TEMPERATURE;
        let instead = match whole.find(|whole| f64::from(*whole) == needed) {
            Some(temperature) => {
                let encoding = Encoding::Sampled(Sampling {
                    temperature,
                    ..sampling
                });
                format!("\"{encoding}\"")
            }
            None => WITH_LOGITS.to_owned(),
        };
        Some(Self {
            needed: format!("classes drawn at its temperature, {needed}"),
            found: format!("draws at temperature {drawn}"),
            instead,
        })
    }
}

const ALL_LOGITS: &str = "the teacher's logits of all classes";
const WITH_ALL_LOGITS: &str = "\"f32\" or \"f16\"";
const WITH_LOGITS: &str = "\"f32\", \"f16\" or \"top-K\"";
