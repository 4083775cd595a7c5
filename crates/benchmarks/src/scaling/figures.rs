//! The figures of all parts, as tables or as JSON.

use std::{fmt, fs, path::Path};

use anyhow::Context;
use serde::{Deserialize, Serialize};

use super::{
    arithmetic::ArithmeticFigures, message_bytes::ByteFigures, predictions::PredictionFigures,
    recording::RecordingFigures, teachers::TeacherFigures, workers::WorkerFigures,
};

/// All figures of `retort-bench scaling`; absent ones were not asked for.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Figures {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub teachers: Option<TeacherFigures>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes: Option<ByteFigures>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub recording: Option<RecordingFigures>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub workers: Option<WorkerFigures>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub predictions: Option<PredictionFigures>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub arithmetic: Option<ArithmeticFigures>,
}

impl Figures {
    /// Reads what `--json` printed.
    ///
    /// # Errors
    /// If the file cannot be read, or is not an output of this version.
    pub(super) fn read(file: &Path) -> anyhow::Result<Self> {
        let named = || file.display().to_string();
        let bytes = fs::read(file).with_context(named)?;
        serde_json::from_slice(&bytes).with_context(|| {
            let file = named();
            format!("{file} is not an output of `retort-bench scaling --json` of this version")
        })
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            teachers,
            bytes,
            recording,
            workers,
            predictions,
            arithmetic,
        } = self;
        show(f, teachers.as_ref())?;
        show(f, bytes.as_ref())?;
        show(f, recording.as_ref())?;
        show(f, workers.as_ref())?;
        show(f, predictions.as_ref())?;
        show(f, arithmetic.as_ref())
    }
}

fn show(f: &mut fmt::Formatter<'_>, figures: Option<&impl fmt::Display>) -> fmt::Result {
    figures.map_or(Ok(()), |figures| write!(f, "{figures}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_no_output_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("scaling.json");
        let figures = Figures {
            bytes: Some(ByteFigures::count().unwrap()),
            ..Figures::default()
        };
        fs::write(&file, serde_json::to_vec(&figures).unwrap()).unwrap();
        assert_eq!(Figures::read(&file).unwrap(), figures);
        fs::write(&file, r#"{"turns": 1}"#).unwrap();
        let error = format!("{:#}", Figures::read(&file).unwrap_err());
        assert!(error.contains("scaling.json is not an output"), "{error}");
    }
}
