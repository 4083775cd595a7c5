//! Soft targets as messages of `retort.teacher.v1`.

use proto::teacher::v1 as wire;

use super::{Encoding, Malformed, Parts, SoftTargets, ValueType};

impl Encoding {
    /// The encoding as in `Open`: kind and k; k is 0 if every class has a value.
    pub fn to_wire(self) -> (wire::Encoding, u32) {
        match self {
            Self::Dense(ValueType::F32) => (wire::Encoding::F32, 0),
            Self::Dense(ValueType::F16) => (wire::Encoding::F16, 0),
            Self::TopK { k, values } => match values {
                ValueType::F32 => (wire::Encoding::TopKF32, k),
                ValueType::F16 => (wire::Encoding::TopKF16, k),
            },
        }
    }

    /// The encoding of an `Open`; `None` if the kind is unknown or k is out of range.
    pub fn from_wire(kind: wire::Encoding, k: u32) -> Option<Self> {
        let top_k = |values| {
            (1..=Self::MAX_K)
                .contains(&k)
                .then_some(Self::TopK { k, values })
        };
        match kind {
            wire::Encoding::Unspecified => None,
            wire::Encoding::F32 => Some(Self::F32),
            wire::Encoding::F16 => Some(Self::F16),
            wire::Encoding::TopKF32 => top_k(ValueType::F32),
            wire::Encoding::TopKF16 => top_k(ValueType::F16),
        }
    }
}

impl SoftTargets {
    /// The answer to batch `id`; shares the bytes.
    pub fn to_wire(&self, id: u64) -> wire::SoftTargets {
        let Parts {
            logits,
            kept_classes,
            tail_buckets,
        } = self.parts.clone();
        wire::SoftTargets {
            id,
            encoding: self.encoding.to_wire().0.into(),
            shape: vec![self.samples as u64, self.classes as u64],
            logits,
            kept_classes,
            rest: tail_buckets,
        }
    }

    /// Takes the bytes of an answer in `encoding` to a batch of `samples`, without a copy.
    ///
    /// # Errors
    /// A message that says what is wrong with the answer.
    pub fn from_wire(
        answer: wire::SoftTargets,
        encoding: Encoding,
        samples: usize,
        classes: usize,
    ) -> Result<Self, String> {
        if answer.encoding() != encoding.to_wire().0 {
            return Err(format!("encoding {} was not requested", answer.encoding));
        }
        if answer.shape != [samples as u64, classes as u64] {
            return Err(format!(
                "logits of shape {:?} for a batch that needs [{samples}, {classes}]",
                answer.shape
            ));
        }
        let parts = Parts {
            logits: answer.logits,
            kept_classes: answer.kept_classes,
            tail_buckets: answer.rest,
        };
        Self::new(encoding, samples, classes, parts).map_err(|error: Malformed| error.to_string())
    }
}
