//! The identity of a recording.

use std::fmt::Write;

use crate::Encoding;
use artifacts::manifest::TeacherIdentity;
use common::digest::Sha256;
use datasets::{Augmentation, BatchAssembler, SampleError, Source, Targets, View};
use serde::{Deserialize, Serialize};

/// Everything that decides the bytes of recorded soft targets.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RecordingIdentity {
    /// The teacher: weights, architecture and numerics.
    pub teacher: TeacherIdentity,
    /// The images that the teacher saw.
    pub images: RecordedImages,
    /// Their augmentation.
    pub views: ViewSet,
    /// Encoding of the logits.
    pub encoding: Encoding,
}

/// The images of a recording.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RecordedImages {
    /// The fingerprint of the source.
    pub fingerprint: String,
    /// Number of images.
    pub samples: u32,
    /// Number of classes.
    pub classes: u32,
}

/// A fixed set of augmented views; each shows every image once.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ViewSet {
    /// Seed of the random changes.
    pub seed: u64,
    /// The random changes.
    pub augmentation: Augmentation,
    /// Shape of the student's input, which decides the unit of [`Augmentation::pad`] and the aspect ratio.
    pub input: Vec<usize>,
    /// SHA-256 of the first samples in view 0, as the student sees them: a version that augments differently
    /// makes other views.
    pub probe_sha256: Sha256,
}

impl RecordedImages {
    /// The samples of `source`, for a teacher of `classes` classes.
    pub fn of(source: &dyn Source, classes: usize) -> Self {
        Self {
            fingerprint: source.fingerprint().to_owned(),
            // Holds: samples and labels are numbered by u32.
            samples: source.len() as u32,
            classes: classes as u32,
        }
    }
}

impl ViewSet {
    /// Number of images in the probe, at most.
    pub const PROBED: usize = 64;

    /// The views of `source` under `augmentation` and `seed` for a student with an input of the shape `input`.
    ///
    /// # Errors
    /// A sample that cannot be read.
    pub fn of(
        source: &dyn Source,
        augmentation: Augmentation,
        seed: u64,
        input: &[usize],
    ) -> Result<Self, SampleError> {
        let view = View::Fixed { seed, view: 0 };
        let targets = Targets::student(input);
        let assembler = BatchAssembler::new(source, augmentation, view, targets);
        let probed: Vec<u32> = (0..source.len().min(Self::PROBED) as u32).collect();
        Ok(Self {
            seed,
            augmentation,
            input: input.to_vec(),
            probe_sha256: Sha256::of(&assembler.assemble(&probed)?.values.into_bytes()),
        })
    }
}

impl RecordingIdentity {
    /// SHA-256 of the identity.
    pub fn id(&self) -> Sha256 {
        // Holds: every key is a string.
        Sha256::of(&serde_json::to_vec(self).expect("an identity serializes"))
    }

    /// Name of the recording's folder: teacher, encoding and id, shortened.
    pub fn folder_name(&self) -> String {
        let teacher: String = self.teacher.model_id.chars().take(12).collect();
        // The teacher chooses its id; only characters that are safe in a path are used.
        let teacher: String = teacher
            .chars()
            .filter(char::is_ascii_alphanumeric)
            .collect();
        format!("{teacher}-{}-{}", self.encoding, &self.id().as_str()[..12])
    }

    /// How `self` differs from `wanted`, as text; empty if it does not. The teacher is compared only if
    /// `wanted` names one.
    pub fn differences(&self, wanted: &WantedRecording<'_>) -> String {
        let mut text = String::new();
        let mut differ =
            |what: &str, found: &dyn std::fmt::Display, wanted: &dyn std::fmt::Display| {
                let separator = if text.is_empty() { "" } else { ", " };
                // Writing to a String cannot fail.
                let _ = write!(text, "{separator}{what} {found} instead of {wanted}");
            };
        let Self {
            teacher,
            images,
            views,
            encoding,
        } = self;
        if images != wanted.images {
            let describe = |images: &RecordedImages| {
                format!("{} images {:.12}", images.samples, images.fingerprint)
            };
            differ("data set", &describe(images), &describe(wanted.images));
        }
        if views != wanted.views {
            let describe = |views: &ViewSet| {
                let probe = &views.probe_sha256.as_str()[..12];
                let (augmentation, input, seed) = (views.augmentation, &views.input, views.seed);
                format!("{augmentation}, input {input:?}, view_seed {seed} ({probe})")
            };
            differ("augmentation", &describe(views), &describe(wanted.views));
        }
        if let Some(wanted) = wanted.encoding.filter(|wanted| wanted != encoding) {
            differ("encoding", encoding, &wanted);
        }
        if let Some(wanted) = wanted.teacher.filter(|wanted| *wanted != teacher) {
            let describe = |teacher: &TeacherIdentity| {
                format!("{:.12} ({})", teacher.model_id, teacher.numerics)
            };
            differ("teacher", &describe(teacher), &describe(wanted));
        }
        text
    }
}

/// What a run needs of a recording.
#[derive(Debug, Clone, Copy)]
pub struct WantedRecording<'r> {
    /// The run's images.
    pub images: &'r RecordedImages,
    /// The run's views.
    pub views: &'r ViewSet,
    /// The encoding; any if absent.
    pub encoding: Option<Encoding>,
    /// The teacher; any if absent.
    pub teacher: Option<&'r TeacherIdentity>,
}
