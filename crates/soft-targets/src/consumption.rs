//! A digest of the data that training consumed, which can be stored, resumed and recomputed.
//!
//! The trainer adds every step to the digest; `retort run --verify` adds the same steps from the
//! configuration alone. Equal digests prove that each (sample, view, teacher)
//! was used exactly once and in order, whatever happened in between.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256 as Hasher};

use common::digest::Sha256;

/// A chain over the steps of one phase: each link is the SHA-256 of the link before, as 32 bytes,
/// and of one step's record; the first link is 32 zeros.
///
/// A record is phase, epoch, view and number of samples as u64, the samples as u32, all
/// little-endian, then the model id of the teacher if the step used soft targets; with named teachers,
/// [`named_teachers`] of those that the phase uses.
///
/// A chain and not one long hash: the state of a chain is a digest, which a file can store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Consumption {
    /// Samples so far, over all epochs.
    pub samples: u64,
    /// The last link.
    pub sha256: Sha256,
}

/// What training used in one batch.
#[derive(Debug, Clone, Copy)]
pub struct ConsumedStep<'s> {
    /// Position of the phase in the run, 0-based.
    pub phase: u64,
    /// Position of the epoch in the phase, 0-based.
    pub epoch: u64,
    /// Key of the augmentation: the epoch, or the view if views repeat.
    pub view: u64,
    /// Positions in the training images, in the batch's order.
    pub samples: &'s [u32],
    /// Model id of the teacher whose soft targets were used, or [`named_teachers`].
    pub teacher: Option<&'s str>,
}

impl Default for Consumption {
    fn default() -> Self {
        Self {
            samples: 0,
            sha256: Sha256::from_bytes([0; 32]),
        }
    }
}

impl Consumption {
    /// Appends one step.
    pub fn add(&mut self, step: ConsumedStep<'_>) {
        let mut hasher = Hasher::new();
        hasher.update(self.sha256.to_bytes());
        let count = step.samples.len() as u64;
        for word in [step.phase, step.epoch, step.view, count] {
            hasher.update(word.to_le_bytes());
        }
        for sample in step.samples {
            hasher.update(sample.to_le_bytes());
        }
        hasher.update(step.teacher.unwrap_or_default());
        self.sha256 = Sha256::from_bytes(hasher.finalize().into());
        self.samples += count;
    }
}

/// The teachers of a step by name, with the model id of each, as [`ConsumedStep::teacher`]: a JSON object.
pub fn named_teachers(model_ids: &BTreeMap<&str, &str>) -> String {
    // Holds: keys and values are strings.
    serde_json::to_string(model_ids).expect("a map of strings serializes")
}

#[cfg(test)]
mod tests {
    use super::*;

    const STEP: ConsumedStep<'_> = ConsumedStep {
        phase: 1,
        epoch: 2,
        view: 2,
        samples: &[7, 3],
        teacher: None,
    };

    fn after(steps: &[ConsumedStep<'_>]) -> Consumption {
        let mut consumption = Consumption::default();
        for step in steps {
            consumption.add(*step);
        }
        consumption
    }

    #[test]
    fn a_link_is_the_hash_of_the_link_before_and_the_record() {
        let mut bytes = vec![0_u8; 32];
        for word in [1_u64, 2, 2, 2] {
            bytes.extend(word.to_le_bytes());
        }
        bytes.extend([7, 0, 0, 0, 3, 0, 0, 0]);
        let mut with_teacher = bytes.clone();
        with_teacher.extend(b"abc");
        assert_eq!(after(&[STEP]).sha256, Sha256::of(&bytes));
        let teacher = Some("abc");
        let asked = after(&[ConsumedStep { teacher, ..STEP }]);
        assert_eq!(asked.sha256, Sha256::of(&with_teacher));
        assert_eq!(asked.samples, 2);
    }

    #[test]
    fn every_part_of_a_step_and_their_order_count() {
        let other = [
            ConsumedStep { phase: 0, ..STEP },
            ConsumedStep { epoch: 0, ..STEP },
            ConsumedStep { view: 0, ..STEP },
            ConsumedStep {
                samples: &[3, 7],
                ..STEP
            },
            ConsumedStep {
                teacher: Some("a"),
                ..STEP
            },
        ];
        for step in other {
            assert_ne!(after(&[step]), after(&[STEP]));
            assert_ne!(after(&[step, STEP]), after(&[STEP, step]));
        }
        assert_ne!(after(&[STEP, STEP]), after(&[STEP]));
    }

    #[test]
    fn named_teachers_are_in_the_record_with_their_names() {
        let big = named_teachers(&BTreeMap::from([("wide", "b"), ("big", "a")]));
        assert_eq!(big, r#"{"big":"a","wide":"b"}"#);
        let exchanged = named_teachers(&BTreeMap::from([("big", "b"), ("wide", "a")]));
        let with = |teacher: &str| {
            after(&[ConsumedStep {
                teacher: Some(teacher),
                ..STEP
            }])
        };
        assert_ne!(with(&big), with(&exchanged));
        assert_ne!(with(&big), with("a"));
    }

    #[test]
    fn it_continues_from_a_stored_state() {
        let half = serde_json::to_string(&after(&[STEP])).unwrap();
        let mut resumed: Consumption = serde_json::from_str(&half).unwrap();
        resumed.add(STEP);
        assert_eq!(resumed, after(&[STEP, STEP]));
    }
}
