//! `retort run --verify`: checks a finished run against its configuration.
//!
//! The order in which a run trains is a pure function of configuration and seed. The digest of the
//! consumed data can therefore be recomputed without the trainer and without libtorch.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};

use common::{digest::Sha256, output::Results};
use datasets::EpochSampler;
use networks::{NetworkSpec, Weights, model_id};
use serde::{
    Deserialize,
    de::{DeserializeOwned, IgnoredAny},
};
use soft_targets::consumption::{ConsumedStep, Consumption};

use teachers::{CombinedTeachers, PhaseTeachers};

use crate::{CliError, run_folder::RunFolderError};

mod teachers;

/// The newest format of manifests that this build reads.
const MANIFEST_FORMAT: u32 = 1;

/// The keys of a run's `config.toml` that the verification needs.
#[derive(Debug, Deserialize)]
struct Config {
    seed: u64,
    network: NetworkSpec,
    initial_weights: Option<InitialWeights>,
    phases: Vec<Phase>,
    #[serde(default)]
    soft_targets: SoftTargets,
    #[serde(flatten)]
    teachers: CombinedTeachers,
}

#[derive(Debug, Deserialize)]
struct InitialWeights {
    path: PathBuf,
}

#[derive(Debug, Deserialize)]
struct Phase {
    epochs: u32,
    batch_size: usize,
    loss: Loss,
    /// May end the phase before its last epoch.
    early_stopping: Option<IgnoredAny>,
}

/// One term, or the terms that are added.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Loss {
    Single(LossTerm),
    Sum(Vec<LossTerm>),
}

#[derive(Debug, Deserialize)]
struct LossTerm {
    kind: String,
    /// The teacher, ensemble or route that it learns from, if it says so.
    teacher: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
struct SoftTargets {
    /// Number of augmented views that the epochs of a phase with soft targets cycle through.
    views: Option<u64>,
}

/// The keys of a run's `manifest.json` that the verification needs.
#[derive(Debug, Deserialize)]
struct Manifest {
    format_version: u32,
    name: String,
    seed: u64,
    config_sha256: Sha256,
    /// Digest of the file with the initial weights, if they were not random.
    initial_weights_sha256: Option<Sha256>,
    train_samples: u32,
    /// Training samples with a label, if not all have one.
    labelled_samples: Option<u32>,
    teacher: Option<Teacher>,
    /// Named teachers.
    #[serde(default)]
    teachers: BTreeMap<String, NamedTeacher>,
    model_id: String,
    onnx_sha256: Option<Sha256>,
    /// Digest of the model in int8, if the run wrote one.
    int8_onnx_sha256: Option<Sha256>,
    phases: Vec<PhaseRecord>,
}

#[derive(Debug, Deserialize)]
struct Teacher {
    model_id: String,
}

#[derive(Debug, Deserialize)]
struct NamedTeacher {
    identity: Teacher,
}

#[derive(Debug, Deserialize)]
struct PhaseRecord {
    kind: String,
    consumed_samples: u64,
    consumed_sha256: Sha256,
}

/// Verifies the run in `folder` and prints the result of each phase.
///
/// # Errors
/// [`CliError::NotVerified`] with all contradictions, or an error about a file that cannot be read.
pub(super) fn verify(folder: &Path) -> Result<(), CliError> {
    if let Some(error) = RunFolderError::of_url(folder) {
        return Err(error.into());
    }
    let run = FinishedRun::read(folder)?;
    writeln!(Results, "run {}", run.manifest.name)?;
    let mut problems = run.contradictions();
    match run.check_initial_weights() {
        Ok(Some(result)) => writeln!(Results, "  initial weights: {result}")?,
        Ok(None) => {}
        Err(problem) => problems.push(problem),
    }
    for (index, (phase, record)) in run
        .config
        .phases
        .iter()
        .zip(&run.manifest.phases)
        .enumerate()
    {
        match run.check_phase(index, phase, record) {
            Ok(result) => writeln!(Results, "  phase {} ({}): {result}", index + 1, record.kind)?,
            Err(problem) => problems.push(problem),
        }
    }
    problems.extend(run.check_files()?);
    if problems.is_empty() {
        writeln!(
            Results,
            "verified: configuration, consumption, weights and model agree"
        )?;
        return Ok(());
    }
    Err(CliError::NotVerified {
        folder: folder.to_owned(),
        problems: problems.join("; "),
    })
}

/// Configuration and manifest of a run.
struct FinishedRun {
    folder: PathBuf,
    config: Config,
    config_sha256: Sha256,
    manifest: Manifest,
}

impl FinishedRun {
    fn read(folder: &Path) -> Result<Self, CliError> {
        let file = folder.join("manifest.json");
        if !file.exists() {
            return Err(CliError::Usage(format!(
                "{} contains no finished run: manifest.json is missing",
                folder.display()
            )));
        }
        let bytes = fs::read(&file).map_err(CliError::file(&file))?;
        let manifest: Manifest = json(&file, &bytes)?;
        if manifest.format_version > MANIFEST_FORMAT {
            return Err(CliError::Usage(format!(
                "{}: format_version {} is newer than {MANIFEST_FORMAT}, the newest that this \
                 build reads",
                file.display(),
                manifest.format_version
            )));
        }
        let file = folder.join("config.toml");
        let text = fs::read_to_string(&file).map_err(CliError::file(&file))?;
        let config = toml::from_str(&text).map_err(|error| unreadable(&file, &error))?;
        Ok(Self {
            folder: folder.to_owned(),
            config,
            config_sha256: Sha256::of(text.as_bytes()),
            manifest,
        })
    }

    /// Contradictions between manifest and configuration.
    fn contradictions(&self) -> Vec<String> {
        let Self {
            config, manifest, ..
        } = self;
        let mut found = Vec::new();
        if manifest.config_sha256 != self.config_sha256 {
            found.push(format!(
                "config.toml has SHA-256 {}, the manifest says {}",
                self.config_sha256, manifest.config_sha256
            ));
        }
        if manifest.seed != config.seed {
            found.push(format!(
                "the manifest says seed {}, config.toml {}",
                manifest.seed, config.seed
            ));
        }
        if manifest.phases.len() != config.phases.len() {
            found.push(format!(
                "the manifest has {} phases, config.toml {}",
                manifest.phases.len(),
                config.phases.len()
            ));
        }
        found
    }

    /// Compares the file with the initial weights, if it is still there, and describes it.
    fn check_initial_weights(&self) -> Result<Option<String>, String> {
        let (file, expected) = match (
            &self.config.initial_weights,
            &self.manifest.initial_weights_sha256,
        ) {
            (None, None) => return Ok(None),
            (Some(InitialWeights { path }), Some(expected)) => (path.display(), expected),
            (Some(_), None) => {
                return Err("config.toml names initial weights, the manifest has none".to_owned());
            }
            (None, Some(_)) => {
                return Err("the manifest has initial weights, config.toml names none".to_owned());
            }
        };
        match self.initial_weights_now() {
            None => Ok(Some(format!(
                "SHA-256 {expected}; {file} is not there, so it is not compared"
            ))),
            Some(Ok(found)) if found == *expected => {
                Ok(Some(format!("{file}, SHA-256 {expected}")))
            }
            Some(Ok(found)) => Err(format!(
                "{file} has SHA-256 {found}; the run began from initial weights with {expected}"
            )),
            Some(Err(error)) => Err(format!("{file}: {error}")),
        }
    }

    /// The digest of the file with the initial weights; `None` if it is not there.
    fn initial_weights_now(&self) -> Option<io::Result<Sha256>> {
        let file = &self.config.initial_weights.as_ref()?.path;
        match fs::read(file) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            read => Some(read.map(|bytes| Sha256::of(&bytes))),
        }
    }

    /// Recomputes what the phase must have consumed, and describes it.
    fn check_phase(
        &self,
        index: usize,
        phase: &Phase,
        record: &PhaseRecord,
    ) -> Result<String, String> {
        let teachers = self.teachers_of(index, phase)?;
        let samples = self.manifest.samples_of(phase);
        let epochs = phase.epochs_of(record.consumed_samples, samples);
        let total = u64::from(samples) * u64::from(epochs);
        if record.consumed_samples != total {
            return Err(format!(
                "phase {} consumed {} samples, but {epochs} epochs of {samples} are {total}",
                index + 1,
                record.consumed_samples,
            ));
        }
        let teacher = teachers.as_ref().map(PhaseTeachers::record);
        let expected = self.expected(index as u64, phase, epochs, teacher.as_deref())?;
        if record.consumed_sha256 != expected.sha256 {
            return Err(format!(
                "phase {} did not consume each (sample, view, teacher) exactly once and in order: \
                 its digest is {}, configuration and seed give {}",
                index + 1,
                record.consumed_sha256,
                expected.sha256
            ));
        }
        let source = match &teachers {
            Some(teachers) => format!("with soft targets of {}", teachers.describe()),
            None => "with hard labels alone".to_owned(),
        };
        Ok(format!(
            "{epochs} epochs of {samples} samples, each used exactly once per epoch, {source}"
        ))
    }

    /// The teachers that the phase at `index` must have used.
    fn teachers_of(
        &self,
        index: usize,
        phase: &Phase,
    ) -> Result<Option<PhaseTeachers<'_>>, String> {
        let number = index + 1;
        if !phase.needs_soft_targets() {
            return Ok(None);
        }
        if let Some(teacher) = &self.manifest.teacher {
            return Ok(Some(PhaseTeachers::Single(&teacher.model_id)));
        }
        let known = &self.manifest.teachers;
        if known.is_empty() {
            return Err(format!("phase {number} needs a teacher, but had none"));
        }
        let soft = phase
            .terms()
            .iter()
            .filter(|term| term.needs_soft_targets());
        let mut used = BTreeMap::new();
        for term in soft {
            let names = match &term.teacher {
                Some(name) => self.config.teachers.members(name),
                None => known.keys().map(String::as_str).collect(),
            };
            for name in names {
                let teacher = known.get_key_value(name);
                let (name, teacher) = teacher.ok_or_else(|| {
                    format!("phase {number} needs the teacher {name}, but had none of that name")
                })?;
                used.insert(&**name, &*teacher.identity.model_id);
            }
        }
        Ok(Some(PhaseTeachers::Named(used)))
    }

    /// Computes the digest of the data that the phase must have consumed in `epochs` epochs.
    fn expected(
        &self,
        index: u64,
        phase: &Phase,
        epochs: u32,
        teacher: Option<&str>,
    ) -> Result<Consumption, String> {
        let samples = self.manifest.samples_of(phase) as usize;
        if phase.batch_size == 0 {
            return Err("config.toml: a phase has batch_size 0".to_owned());
        }
        let views = self.config.soft_targets.views;
        let views = views.filter(|views| *views > 0 && teacher.is_some());
        let mut consumption = Consumption::default();
        for epoch in 0..u64::from(epochs) {
            let sampler =
                EpochSampler::new(samples, phase.batch_size, self.config.seed, index, epoch);
            let mut used = vec![false; samples];
            for batch in sampler.iter() {
                for sample in batch {
                    if std::mem::replace(&mut used[*sample as usize], true) {
                        return Err(format!("epoch {} uses sample {sample} twice", epoch + 1));
                    }
                }
                consumption.add(ConsumedStep {
                    phase: index,
                    epoch,
                    view: views.map_or(epoch, |views| epoch % views),
                    samples: batch,
                    teacher,
                });
            }
            if let Some(unused) = used.iter().position(|used| !used) {
                return Err(format!("epoch {} does not use sample {unused}", epoch + 1));
            }
        }
        Ok(consumption)
    }

    /// Compares weights and exported model with the manifest.
    fn check_files(&self) -> Result<Vec<String>, CliError> {
        let mut problems = Vec::new();
        let file = self.folder.join("artifact/weights.safetensors");
        let bytes = fs::read(&file).map_err(CliError::file(&file))?;
        let network = &self.config.network;
        let found = Weights::from_safetensors(&bytes, network)
            .map_err(|error| error.to_string())
            .and_then(|weights| model_id(network, &weights).map_err(|error| error.to_string()));
        match found {
            Ok(found) if found.to_string() == self.manifest.model_id => {}
            Ok(found) => problems.push(format!(
                "the weights are model {found}, the manifest says {}",
                self.manifest.model_id
            )),
            Err(error) => problems.push(format!("{}: {error}", file.display())),
        }
        for (name, expected) in [
            ("artifact/model.onnx", &self.manifest.onnx_sha256),
            ("artifact/int8/model.onnx", &self.manifest.int8_onnx_sha256),
        ] {
            let Some(expected) = expected else { continue };
            let file = self.folder.join(name);
            let found = Sha256::of(&fs::read(&file).map_err(CliError::file(&file))?);
            if found != *expected {
                problems.push(format!(
                    "{name} has SHA-256 {found}, the manifest says {expected}"
                ));
            }
        }
        Ok(problems)
    }
}

impl Manifest {
    /// Number of samples that `phase` trains on.
    fn samples_of(&self, phase: &Phase) -> u32 {
        match self.labelled_samples {
            Some(labelled) if !phase.needs_soft_targets() => labelled,
            _ => self.train_samples,
        }
    }
}

impl LossTerm {
    fn needs_soft_targets(&self) -> bool {
        self.kind != "cross_entropy"
    }
}

impl Phase {
    fn terms(&self) -> &[LossTerm] {
        match &self.loss {
            Loss::Single(term) => std::slice::from_ref(term),
            Loss::Sum(terms) => terms,
        }
    }

    fn needs_soft_targets(&self) -> bool {
        self.terms().iter().any(LossTerm::needs_soft_targets)
    }

    /// The epochs in which the phase consumed `consumed` samples, each of `samples`: all that are configured, or at
    /// least one if the phase may stop early.
    fn epochs_of(&self, consumed: u64, samples: u32) -> u32 {
        if self.early_stopping.is_none() {
            return self.epochs;
        }
        let epochs = consumed / u64::from(samples.max(1));
        let epochs = u32::try_from(epochs).unwrap_or(self.epochs);
        epochs.clamp(self.epochs.min(1), self.epochs)
    }
}

fn json<T: DeserializeOwned>(file: &Path, bytes: &[u8]) -> Result<T, CliError> {
    serde_json::from_slice(bytes).map_err(|error| unreadable(file, &error))
}

fn unreadable(file: &Path, error: &dyn std::fmt::Display) -> CliError {
    let first_line = error.to_string();
    let first_line = first_line.lines().next().unwrap_or_default();
    CliError::Usage(format!("{} cannot be read: {first_line}", file.display()))
}

#[cfg(test)]
mod tests;
