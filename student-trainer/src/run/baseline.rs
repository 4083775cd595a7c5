//! The run that a student must beat.

use std::path::Path;

use super::{gate_error::PublishGateError, manifest::RunManifest};

/// A finished run on the same validation samples.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Baseline {
    /// On the validation samples, 0 to 1.
    pub(super) accuracy: f64,
    /// Samples that it trained on, over all phases and epochs.
    pub(super) consumed_samples: u64,
}

impl Baseline {
    /// Reads the run in `folder`, which must have `parameters` parameters and validation samples with the
    /// fingerprint `validation`.
    ///
    /// # Errors
    /// Those of [`PublishGateError`] about the baseline.
    pub(super) fn read(
        folder: &Path,
        parameters: u64,
        validation: &str,
    ) -> Result<Self, PublishGateError> {
        let manifest =
            RunManifest::read(folder).map_err(|error| PublishGateError::UnreadableBaseline {
                folder: folder.to_owned(),
                error,
            })?;
        let missing = |what| PublishGateError::IncompleteBaseline {
            folder: folder.to_owned(),
            what,
        };
        let differs = |what, found: String, wanted: String| PublishGateError::OtherBaseline {
            folder: folder.to_owned(),
            what,
            found,
            wanted,
        };
        let found = manifest.parameters.ok_or_else(|| missing("parameters"))?;
        if found != parameters {
            let [found, wanted] = [found, parameters].map(|count| count.to_string());
            return Err(differs("its number of parameters is", found, wanted));
        }
        let accuracy = manifest.validation_accuracy();
        let consumed_samples = manifest.consumed_samples();
        let found = manifest.validation_dataset;
        let found = found.ok_or_else(|| missing("validation_dataset"))?;
        if found != validation {
            let wanted = validation.to_owned();
            return Err(differs(
                "the fingerprint of its validation samples is",
                found,
                wanted,
            ));
        }
        Ok(Self {
            accuracy: accuracy.ok_or_else(|| missing("validation_accuracy"))?,
            consumed_samples,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use serde_json::{Value, json};

    use super::*;
    use crate::run::manifest::tests::withheld as manifest;

    fn read(manifest: &Value) -> Result<Baseline, PublishGateError> {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("manifest.json"), manifest.to_string()).unwrap();
        Baseline::read(folder.path(), 7850, "v")
    }

    #[test]
    fn a_run_of_the_same_size_on_the_same_validation_samples_is_a_baseline() {
        let expected = Baseline {
            accuracy: 0.5,
            consumed_samples: 30,
        };
        assert_eq!(read(&manifest()).unwrap(), expected);
    }

    #[test]
    fn any_other_run_is_refused_with_the_difference() {
        for (key, value, part) in [
            (
                "parameters",
                json!(7851),
                "its number of parameters is 7851, and this run has 7850",
            ),
            ("parameters", Value::Null, "has no parameters"),
            (
                "validation_dataset",
                json!("w"),
                "the fingerprint of its validation samples is w, and this run has v",
            ),
            (
                "validation_dataset",
                Value::Null,
                "has no validation_dataset",
            ),
            ("phases", json!([]), "has no validation_accuracy"),
            (
                "format_version",
                json!(2),
                "format_version 2 is newer than 1",
            ),
        ] {
            let mut manifest = manifest();
            manifest[key] = value;
            let error = read(&manifest).unwrap_err().to_string();
            assert!(error.contains(part), "{part} is not in: {error}");
        }
        let nowhere = Baseline::read(Path::new("no-such-run"), 7850, "v");
        let error = nowhere.unwrap_err().to_string();
        assert!(
            error.contains("publish.gate.baseline = no-such-run")
                && error.contains("manifest.json"),
            "{error}"
        );
    }
}
