//! The folder of a run on this machine, finished or not: configuration, events, results.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use networks::NetworkSpec;
use serde::Deserialize;
use toml::Table;

use crate::{
    comparison::Figures,
    local::{Evaluation, LocalError, ModelFigures},
    runs::RunHistory,
};

mod error;
mod events;
mod manifest;

pub use error::RunFolderError;
pub(crate) use manifest::RunManifest;

/// The usual name of a student in evaluations.
pub(crate) const STUDENT: &str = "student";

/// What the folder of a run holds.
#[derive(Debug)]
pub(crate) struct RunFolder {
    /// The folder.
    pub path: PathBuf,
    /// The resolved configuration.
    pub config: Table,
    /// The phases and epochs so far.
    pub history: RunHistory,
    /// The results; `None` if the run is not finished.
    pub manifest: Option<RunManifest>,
    /// Figures on samples that no training used, if `student-trainer evaluate` measured the run's model.
    pub evaluation: Option<Evaluation>,
    /// The name of the run's model in the evaluation.
    model: String,
}

impl RunFolder {
    /// Reads the run in `path`, or in its folder `run` if `retort distill` made `path`.
    ///
    /// # Errors
    /// If there is no run, or one of its files is damaged. The files of an unfinished run may be missing.
    pub(crate) fn read(path: &Path) -> Result<Self, RunFolderError> {
        let nested = path.join(NESTED);
        let path = match path.join(CONFIG).exists() || !nested.join(CONFIG).exists() {
            true => path.to_owned(),
            false => nested,
        };
        let file = path.join(CONFIG);
        let Some(text) = read_if_there(&file)? else {
            return Err(RunFolderError::of_url(&path).unwrap_or(RunFolderError::NoRun(path)));
        };
        let config = text
            .parse::<Table>()
            .map_err(|error| damaged(&file, one_line(error)))?;
        let file = path.join("metrics.jsonl");
        let history = events::history(&read_if_there(&file)?.unwrap_or_default());
        let file = path.join("manifest.json");
        let manifest = match read_if_there(&file)? {
            Some(text) => {
                Some(RunManifest::parse(&text).map_err(|problem| damaged(&file, problem))?)
            }
            None => None,
        };
        let (evaluation, model) = evaluation(&path)?.unzip();
        Ok(Self {
            path,
            config,
            history,
            manifest,
            evaluation,
            model: model.unwrap_or_default(),
        })
    }

    /// The name of the folder; of `retort distill`'s run, that of the folder which it made.
    pub(crate) fn name(&self) -> String {
        let folder = match self.path.file_name() {
            Some(name) if name == NESTED => self.path.parent().unwrap_or(&self.path),
            _ => &self.path,
        };
        // `.` and `..` have no name, but the folder that they lead to has one.
        let canonical = folder.canonicalize();
        let folder = canonical.as_deref().unwrap_or(folder);
        let name = folder.file_name().unwrap_or(folder.as_os_str());
        name.to_string_lossy().into_owned()
    }

    /// The run's model among the evaluated ones.
    pub(crate) fn evaluated(&self) -> Option<&ModelFigures> {
        self.evaluation.as_ref()?.models.get(&self.model)
    }

    /// The model's figures, as far as they are known: without an evaluation, only what follows from its network.
    pub(crate) fn figures(&self) -> Figures {
        if let Some(evaluated) = self.evaluated() {
            return evaluated.into();
        }
        let network = self.config.get("network").cloned();
        let spec = network.and_then(|network| NetworkSpec::deserialize(network).ok());
        let cost = spec.and_then(|spec| networks::cost(&spec).ok());
        Figures {
            parameters: cost.map(|cost| cost.parameters),
            multiply_adds: cost.map(|cost| cost.multiply_adds),
            ..Figures::default()
        }
    }

    /// The epochs of each phase that the configuration plans.
    pub(crate) fn planned_epochs(&self) -> Vec<u64> {
        let phases = self.config.get("phases").and_then(|it| it.as_array());
        let epochs = |phase: &toml::Value| phase.get("epochs")?.as_integer()?.try_into().ok();
        phases.into_iter().flatten().filter_map(epochs).collect()
    }

    /// The quantization-aware phases of the configuration, counted from 1.
    pub(crate) fn quantization_aware_phases(&self) -> Vec<usize> {
        let phases = self.config.get("phases").and_then(|it| it.as_array());
        let aware = |phase: &toml::Value| phase.get("quantization_aware")?.as_bool();
        let phases = (1..).zip(phases.into_iter().flatten());
        phases
            .filter_map(|(number, phase)| aware(phase)?.then_some(number))
            .collect()
    }

    /// Wall-clock seconds: of the whole run, or of the epochs so far.
    pub(crate) fn seconds(&self) -> f64 {
        let epochs = self.history.phases.iter().flat_map(|phase| &phase.epochs);
        match &self.manifest {
            Some(manifest) => manifest.seconds,
            None => epochs.map(|epoch| epoch.seconds).sum(),
        }
    }
}

const CONFIG: &str = "config.toml";
/// The run in a folder that `retort distill` made.
const NESTED: &str = "run";

/// The evaluation in the run's folder, or beside it, and the name that it gives the run's model: that of the run's
/// folder. In the run's own folder, and beside the run of `retort distill`, it may also be called the student.
fn evaluation(path: &Path) -> Result<Option<(Evaluation, String)>, RunFolderError> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    for (folder, is_own) in [(Some(path), true), (path.parent(), name == NESTED)] {
        let file = folder.unwrap_or(path).join(Evaluation::FILE);
        if !file.exists() {
            continue;
        }
        let evaluation = Evaluation::read(file.clone()).map_err(|error| match error {
            LocalError::Evaluation { file, problem } => damaged(&file, problem),
            error => damaged(&file, error.to_string()),
        })?;
        let names = [&*name, STUDENT].into_iter().take(1 + usize::from(is_own));
        let mut found = names.filter(|name| evaluation.models.contains_key(*name));
        if let Some(model) = found.next().map(str::to_owned) {
            return Ok(Some((evaluation, model)));
        }
    }
    Ok(None)
}

fn read_if_there(file: &Path) -> Result<Option<String>, RunFolderError> {
    match fs::read(file) {
        // A process that is killed may leave a part of a letter at the end of a log.
        Ok(bytes) => Ok(Some(String::from_utf8_lossy(&bytes).into_owned())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(damaged(file, error.to_string())),
    }
}

fn damaged(file: &Path, problem: String) -> RunFolderError {
    RunFolderError::Damaged {
        file: file.to_owned(),
        problem,
    }
}

/// TOML's errors show the line in question below the message.
fn one_line(error: toml::de::Error) -> String {
    error.message().to_owned()
}

#[cfg(test)]
pub(crate) mod tests;
