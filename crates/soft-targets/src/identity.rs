//! The identity of a recording.

use std::fmt::Write;

use crate::Encoding;
use artifacts::manifest::TeacherIdentity;
use common::digest::Sha256;
use datasets::{Augmentation, BatchAssembler, Dataset, View};
use serde::{Deserialize, Serialize};

/// Everything that decides the bytes of recorded soft targets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
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
    /// SHA-256 of shape, pixels and labels.
    pub fingerprint: String,
    /// Number of images.
    pub samples: u32,
    /// Number of classes.
    pub classes: u32,
}

/// A fixed set of augmented views; each shows every image once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ViewSet {
    /// Seed of the random changes.
    pub seed: u64,
    /// The random changes.
    pub augmentation: Augmentation,
    /// SHA-256 of the first images in view 0: a version that augments images differently makes other views.
    pub probe_sha256: Sha256,
}

/// Number of images in the probe of a view set.
const PROBED: usize = 64;

impl RecordedImages {
    /// The images of `dataset`.
    pub fn of(dataset: &Dataset) -> Self {
        Self {
            fingerprint: dataset.fingerprint(),
            // Holds: the sampler numbers samples by u32, and labels are u8.
            samples: dataset.len() as u32,
            classes: dataset.classes() as u32,
        }
    }
}

impl ViewSet {
    /// The views of `dataset` under `augmentation` and `seed`.
    pub fn of(dataset: &Dataset, augmentation: Augmentation, seed: u64) -> Self {
        let assembler = BatchAssembler::new(dataset, augmentation, View::Fixed { seed, view: 0 });
        let probed: Vec<u32> = (0..dataset.len().min(PROBED) as u32).collect();
        Self {
            seed,
            augmentation,
            probe_sha256: Sha256::of(&assembler.assemble(&probed).pixels),
        }
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
                let Augmentation {
                    pad,
                    horizontal_flip,
                } = views.augmentation;
                let probe = &views.probe_sha256.as_str()[..12];
                format!(
                    "pad {pad}, horizontal_flip {horizontal_flip}, view_seed {} ({probe})",
                    views.seed
                )
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
