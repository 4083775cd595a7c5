//! Soft targets as messages of `retort.teacher.v1`.

use proto::teacher::v1 as wire;

use super::{Encoding, Malformed, Parts, Sampling, SoftTargets, ValueType};

impl Encoding {
    /// The kind of encoding, as in `Describe` and in answers.
    pub fn kind(self) -> wire::Encoding {
        match self {
            Self::Dense(ValueType::F32) => wire::Encoding::F32,
            Self::Dense(ValueType::F16) => wire::Encoding::F16,
            Self::TopK { values, .. } => match values {
                ValueType::F32 => wire::Encoding::TopKF32,
                ValueType::F16 => wire::Encoding::TopKF16,
            },
            Self::Sampled(_) => wire::Encoding::Sampled,
        }
    }

    /// An `Open` that asks for this encoding, of no teacher yet.
    pub fn to_open(self) -> wire::Open {
        let (k, temperature) = match self {
            Self::Dense(_) => (0, 0),
            Self::TopK { k, .. } => (k, 0),
            Self::Sampled(Sampling { draws, temperature }) => (draws, temperature),
        };
        wire::Open {
            encoding: self.kind().into(),
            k,
            temperature,
            ..wire::Open::default()
        }
    }

    /// The encoding that `open` asks for; `None` if the kind is unknown, or a number that it needs is out of
    /// range.
    pub fn from_open(open: &wire::Open) -> Option<Self> {
        let k = Some(open.k).filter(|k| (1..=Self::MAX_K).contains(k));
        let top_k = |values| k.map(|k| Self::TopK { k, values });
        match open.encoding() {
            wire::Encoding::Unspecified => None,
            wire::Encoding::F32 => Some(Self::F32),
            wire::Encoding::F16 => Some(Self::F16),
            wire::Encoding::TopKF32 => top_k(ValueType::F32),
            wire::Encoding::TopKF16 => top_k(ValueType::F16),
            wire::Encoding::Sampled => {
                let (draws, temperature) = (open.k, open.temperature);
                let fits = (1..=Sampling::MAX_DRAWS).contains(&draws)
                    && (1..=Sampling::MAX_TEMPERATURE).contains(&temperature);
                fits.then_some(Self::Sampled(Sampling { draws, temperature }))
            }
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
            encoding: self.encoding.kind().into(),
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
        if answer.encoding() != encoding.kind() {
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
