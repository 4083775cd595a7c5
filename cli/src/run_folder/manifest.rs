//! The keys of a run's `manifest.json` that commands show.

use std::collections::BTreeMap;

use artifacts::manifest::TeacherIdentity;
use serde::Deserialize;

/// The newest format that this build reads.
const FORMAT: u32 = 1;

/// Settings, inputs and results of a finished run.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct RunManifest {
    format_version: u32,
    /// Seed of every random choice.
    pub seed: u64,
    /// SHA-256 of the configuration.
    pub config_sha256: String,
    /// Compute threads.
    pub threads: usize,
    /// Precision, device, instruction set and libtorch version.
    pub numerics: String,
    /// Version of Retort.
    pub retort_version: String,
    /// Fingerprint of the training data.
    pub dataset: String,
    /// Number of training samples.
    pub train_samples: usize,
    /// Number of those that have a label, if not all have one.
    pub labelled_samples: Option<usize>,
    /// Number of validation samples.
    pub validation_samples: usize,
    /// The teacher whose soft targets were used, if it has no name.
    pub teacher: Option<TeacherIdentity>,
    /// The named teachers whose soft targets were used.
    #[serde(default)]
    teachers: BTreeMap<String, UsedTeacher>,
    /// Whether the same configuration gives the same bits.
    pub bit_reproducible: bool,
    /// SHA-256 of architecture and final weights.
    pub model_id: String,
    /// SHA-256 of the exported ONNX file.
    pub onnx_sha256: Option<String>,
    /// Version of the published model.
    pub published_version: Option<u64>,
    /// Wall-clock seconds of the whole run.
    pub seconds: f64,
}

/// A named teacher whose soft targets were used.
#[derive(Debug, Clone, Deserialize)]
struct UsedTeacher {
    identity: TeacherIdentity,
}

impl RunManifest {
    /// What `of` says about the teacher; about named ones, with their names. `None` without teachers.
    pub(crate) fn of_teachers(&self, of: impl Fn(&TeacherIdentity) -> String) -> Option<String> {
        if let Some(teacher) = &self.teacher {
            return Some(of(teacher));
        }
        let named = self.teachers.iter();
        let named = named.map(|(name, teacher)| format!("{name}: {}", of(&teacher.identity)));
        let named: Vec<_> = named.collect();
        (!named.is_empty()).then(|| named.join(", "))
    }

    /// The teachers as the object of a sentence: `the teacher 7e15…`, or `the teachers big and wide`.
    pub(crate) fn teachers_text(&self) -> Option<String> {
        if let Some(teacher) = &self.teacher {
            return Some(format!("the teacher {:.12}", teacher.model_id));
        }
        let names: Vec<&str> = self.teachers.keys().map(String::as_str).collect();
        match names[..] {
            [] => None,
            [name] => Some(format!("the teacher {name}")),
            [ref others @ .., last] => {
                Some(format!("the teachers {} and {last}", others.join(", ")))
            }
        }
    }

    /// # Errors
    /// The problem, if `text` is no manifest that this build reads.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let manifest: Self = serde_json::from_str(text).map_err(|error| error.to_string())?;
        if manifest.format_version > FORMAT {
            return Err(format!(
                "format_version {} is newer than {FORMAT}, the newest that this build reads",
                manifest.format_version
            ));
        }
        Ok(manifest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn teachers_are_shown_by_their_names() {
        let identity = |model: &str| serde_json::json!({"model_id": model, "numerics": "f32", "probe_sha256": "9"});
        let with = |teacher: Option<&str>, named: &[&str]| {
            let named = named.iter().map(|name| {
                let used = serde_json::json!({"identity": identity(&format!("{name}1"))});
                ((*name).to_owned(), used)
            });
            let manifest = serde_json::json!({
                "format_version": 1, "seed": 1, "config_sha256": "c0", "threads": 2, "numerics": "f32",
                "retort_version": "0.1.0", "dataset": "da", "train_samples": 90,
                "validation_samples": 10, "teacher": teacher.map(identity),
                "teachers": named.collect::<serde_json::Map<_, _>>(),
                "bit_reproducible": true, "model_id": "57", "seconds": 12.5,
            });
            let manifest = RunManifest::parse(&manifest.to_string()).unwrap();
            let ids = manifest.of_teachers(|teacher| teacher.model_id.clone());
            (ids, manifest.teachers_text())
        };
        let some = |ids: &str, text: &str| (Some(ids.to_owned()), Some(text.to_owned()));
        assert_eq!(with(None, &[]), (None, None));
        assert_eq!(with(Some("7e"), &[]), some("7e", "the teacher 7e"));
        assert_eq!(with(None, &["big"]), some("big: big1", "the teacher big"));
        assert_eq!(
            with(None, &["wide", "big", "old"]),
            some(
                "big: big1, old: old1, wide: wide1",
                "the teachers big, old and wide"
            )
        );
    }
}
