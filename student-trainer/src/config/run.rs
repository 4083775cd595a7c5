//! Configuration of one run.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    path::{Path, PathBuf},
};

use artifacts::model_store::ModelName;
use common::compute::{DeviceChoice, PrecisionChoice};
use common::config::{ConfigError, Layers, Problems, Validate, is_default};
use datasets::Normalization;
use model_signing::{KeyFileError, SigningKey};
use networks::NetworkSpec;
use serde::{Deserialize, Serialize};
use server::security::{
    client::{Credentials, TokenInPlainText, TokenSource},
    tls::ClientTls,
};
use teacher_pool::{NumericsPolicy, PoolConfig};

use super::{
    ClassNames, DataConfig, EnsembleConfig, Fallback, Int8Config, NamedTerm, PhaseConfig,
    PublishGateConfig, PublishedPrecision, RouteConfig, SoftTargetsConfig, SoftTargetsMode,
};

const SHIPPED: &str = include_str!("../../../configs/run.toml");

/// The configuration of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunConfig {
    /// Seed of every random choice.
    pub seed: u64,
    /// Compute threads; 0 uses all cores. Another number gives other bits.
    pub threads: usize,
    /// Number format of convolutions and linear layers.
    pub precision: PrecisionChoice,
    /// Where the network trains. Another device gives other bits.
    #[serde(default, skip_serializing_if = "is_default")]
    pub device: DeviceChoice,
    /// The images.
    pub data: DataConfig,
    /// The network that is trained.
    pub network: NetworkSpec,
    /// The file that the network's first weights come from; by default they are random.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub initial_weights: Option<InitialWeightsConfig>,
    /// The phases, in order.
    pub phases: Vec<PhaseConfig>,
    /// The teacher, if there is one; a phase whose loss needs soft targets needs it or `teachers`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub teacher: Option<PoolConfig>,
    /// Named teachers, instead of `teacher`: the terms of losses say whose soft targets they need.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub teachers: BTreeMap<String, PoolConfig>,
    /// Weighted means of named teachers, which terms can name too.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub ensembles: BTreeMap<String, EnsembleConfig>,
    /// Named teachers that each get some of the samples; terms can name them too.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub routes: BTreeMap<String, RouteConfig>,
    /// Views and recordings; by default teachers are asked for every batch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub soft_targets: Option<SoftTargetsConfig>,
    /// When the run writes checkpoints, from which it can resume.
    pub checkpoints: CheckpointConfig,
    /// Export of the trained network.
    pub export: ExportConfig,
    /// Where to publish the exported model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub publish: Option<PublishConfig>,
}

/// The weights that a run starts from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InitialWeightsConfig {
    /// A safetensors file: published weights, or the `weights.safetensors` of an artifact; relative to the
    /// working directory.
    pub path: PathBuf,
}

/// When checkpoints are written, and how many are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CheckpointConfig {
    /// Steps of a phase between two checkpoints; 0 for checkpoints at the end of epochs only.
    pub every_steps: u64,
    /// Number of newest checkpoints to keep, 1 or more.
    pub keep_last: usize,
    /// Number of best checkpoints to keep in addition: by validation accuracy, or by training loss if there
    /// is no validation split.
    pub keep_best: usize,
}

/// Export of the trained network.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExportConfig {
    /// Whether to write `model.onnx` and `manifest.json`.
    pub onnx: bool,
    /// Largest allowed difference of a logit between ONNX Runtime and libtorch in f32: this value plus
    /// `relative_tolerance` times the largest logit of the image.
    pub tolerance: f32,
    /// See `tolerance`; 0 or more.
    pub relative_tolerance: f32,
    /// Number of images to compare.
    pub compare_samples: usize,
    /// Number of images that the manifest holds with their logits.
    pub golden_samples: usize,
    /// Whether to write the model in int8 too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub int8: Option<Int8Config>,
}

/// Where to publish the exported model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PublishConfig {
    /// `host:port` of an inference service's admin port.
    pub endpoint: String,
    /// Name of the served model.
    pub model: String,
    /// The file that is published.
    #[serde(default, skip_serializing_if = "is_default")]
    pub precision: PublishedPrecision,
    /// File with the token for the service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_file: Option<PathBuf>,
    /// Whether the token may travel to another machine without TLS.
    #[serde(default, skip_serializing_if = "is_default")]
    pub token_in_plain_text: TokenInPlainText,
    /// File with the private key that signs the model; without it, the model is not signed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signing_key: Option<PathBuf>,
    /// Trusted certificates and the run's own certificate; without it, the connection is plain text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<ClientTls>,
    /// The bounds that the model must meet; without them, every model is published.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gate: Option<PublishGateConfig>,
}

impl RunConfig {
    /// Merges shipped defaults, `file`, `RETORT_RUN__...` and `overrides` (`key.path=value`).
    ///
    /// # Errors
    /// All problems of the configuration.
    pub fn load(file: &Path, overrides: &[OsString]) -> Result<Self, ConfigError> {
        let layers = Layers {
            shipped: SHIPPED,
            file: Some(file.to_owned()),
            environment: common::config::environment("RETORT_RUN"),
            overrides: overrides.to_vec(),
        };
        let config: Self = layers.load()?;
        config.check_credentials()?;
        Ok(config)
    }

    /// Merges `text` with the shipped defaults. Does not access the files that it names: its sender may not
    /// be allowed to read them.
    ///
    /// # Errors
    /// All problems of the configuration.
    pub fn from_toml(text: &str) -> Result<Self, ConfigError> {
        Self::from_submitted(text, &[])
    }

    /// As [`from_toml`](Self::from_toml), with `overrides` (`key.path=value`).
    ///
    /// # Errors
    /// All problems of the configuration.
    pub fn from_submitted(text: &str, overrides: &[String]) -> Result<Self, ConfigError> {
        let layers = Layers {
            overrides: overrides.iter().map(Into::into).collect(),
            ..Layers::shipped(SHIPPED)
        };
        layers.load_text(text)
    }

    /// Checks the tokens, certificates and keys that it names.
    ///
    /// # Errors
    /// All files that cannot be used.
    pub fn check_credentials(&self) -> Result<(), ConfigError> {
        let mut problems = Problems::default();
        for (table, pool) in self.pools() {
            pool.credentials().validate(&table, &mut problems);
        }
        if let Some(publish) = &self.publish {
            publish.credentials().validate("publish", &mut problems);
            publish.validate_signing_key(&mut problems);
        }
        if !problems.is_empty() {
            return Err(ConfigError::Invalid {
                file: None,
                problems,
            });
        }
        Ok(())
    }

    /// Every file and folder that it names, with its key; [`SoftTargetsConfig::locations`] has those of soft targets.
    pub fn paths(&self) -> Vec<(String, &Path)> {
        let mut paths = vec![("data.path".to_owned(), self.data.path.as_path())];
        let initial = self.initial_weights.iter();
        paths.extend(initial.map(|file| ("initial_weights.path".to_owned(), file.path.as_path())));
        let gate = self.publish.iter().flat_map(|publish| &publish.gate);
        let baseline = gate.flat_map(|gate| &gate.baseline);
        paths.extend(baseline.map(|folder| ("publish.gate.baseline".to_owned(), folder.as_path())));
        let signing = self.publish.iter().flat_map(|publish| &publish.signing_key);
        paths.extend(signing.map(|file| ("publish.signing_key".to_owned(), file.as_path())));
        let teachers = self.pools().into_iter();
        let teachers = teachers.map(|(table, pool)| (table, &pool.token_file, &pool.tls));
        let publish = self.publish.as_ref();
        let publish = publish.map(|to| ("publish".to_owned(), &to.token_file, &to.tls));
        for (table, token_file, tls) in teachers.chain(publish) {
            let token_file = token_file.iter().map(|file| ("token_file", file.as_path()));
            paths.extend(token_file.map(|(key, file)| (format!("{table}.{key}"), file)));
            let tls = tls.iter().flat_map(ClientTls::files);
            paths.extend(tls.map(|(key, file)| (format!("{table}.tls.{key}"), file)));
        }
        paths
    }

    /// The resolved configuration as TOML, which [`from_toml`](Self::from_toml) reads.
    pub fn to_toml(&self) -> String {
        // Holds: every key is a string, and validated integers fit TOML's 64 signed bits.
        toml::to_string(self).expect("a validated configuration is TOML")
    }

    /// The teachers, each with the name of its table.
    fn pools(&self) -> Vec<(String, &PoolConfig)> {
        let single = self.teacher.iter().map(|pool| ("teacher".to_owned(), pool));
        let named = self.teachers.iter();
        let named = named.map(|(name, pool)| (format!("teachers.{name}"), pool));
        single.chain(named).collect()
    }

    /// The terms of the losses of all phases.
    pub fn loss_terms(&self) -> impl Iterator<Item = NamedTerm> {
        let phases = self.phases.iter().enumerate();
        phases.flat_map(|(index, phase)| phase.loss.named_terms(index))
    }

    /// Whether any phase needs soft targets.
    pub fn needs_soft_targets(&self) -> bool {
        self.phases
            .iter()
            .any(|phase| phase.loss.needs_soft_targets())
    }

    /// Whether the run needs live teachers.
    pub fn needs_teacher(&self) -> bool {
        self.needs_soft_targets() && self.soft_targets_mode() != SoftTargetsMode::Recorded
    }

    /// Whether a teacher's class names must match those of the data.
    pub fn class_names(&self) -> ClassNames {
        let targets = self.soft_targets.as_ref();
        targets.map_or_else(ClassNames::default, |targets| targets.class_names)
    }

    /// What replaces live teachers when none is left.
    pub fn fallback(&self) -> Fallback {
        let targets = self.soft_targets.as_ref();
        targets.map_or_else(Fallback::default, |targets| targets.fallback)
    }

    /// Where soft targets come from.
    pub fn soft_targets_mode(&self) -> SoftTargetsMode {
        let targets = self.soft_targets.as_ref();
        targets.map_or(SoftTargetsMode::Live, |targets| targets.mode)
    }

    /// Checks that the configuration is complete enough to record the run's soft targets.
    ///
    /// # Errors
    /// What is missing or contradictory.
    pub fn can_record(&self) -> Result<(), String> {
        if !self.needs_soft_targets() {
            return Err("no phase needs any".to_owned());
        }
        let pools = self.pools();
        if pools.is_empty() {
            return Err("[teacher] is missing".to_owned());
        }
        // A run on recordings may name teachers that cannot be reached.
        let mut teachers = self.all_teachers().into_iter();
        if let Some(teacher) = teachers.find(|teacher| teacher.pool.is_none()) {
            return Err(format!("[{}] is missing", teacher.table()));
        }
        let targets = self.soft_targets.as_ref();
        let targets = targets.ok_or("[soft_targets] is missing")?;
        if targets.folder.is_none() {
            return Err("soft_targets.folder is missing".to_owned());
        }
        if targets.views.is_none() {
            return Err("soft_targets.views is missing".to_owned());
        }
        for (table, pool) in pools {
            if pool.numerics != NumericsPolicy::Same {
                return Err(format!("{table}.numerics must be \"same\""));
            }
            let encoding = targets.encoding;
            if encoding.is_some_and(|encoding| encoding != pool.encoding) {
                return Err(format!(
                    "soft_targets.encoding must be {table}.encoding: a recording contains the teacher's answers \
                     unchanged"
                ));
            }
        }
        Ok(())
    }
}

impl Validate for RunConfig {
    const NAMED_TABLES: &'static [&'static str] = &["teachers", "ensembles", "routes"];

    fn validate(&self, problems: &mut Problems) {
        let fits = i64::try_from(self.seed).is_ok();
        problems.require(fits, "seed", self.seed, "must be below 2^63");
        let fits = self.threads <= 1024;
        problems.require(fits, "threads", self.threads, "must be from 0 to 1024");
        self.data.validate(problems);
        self.validate_fit(problems);
        if let Err(error) = self.network.layers() {
            problems.add("network", "{…}", &error.to_string());
        }
        if let Some(InitialWeightsConfig { path }) = &self.initial_weights {
            let named = !path.as_os_str().is_empty();
            problems.require(named, "initial_weights.path", "\"\"", "must name a file");
        }
        problems.require(
            !self.phases.is_empty(),
            "phases",
            "[]",
            "needs at least one",
        );
        for (index, phase) in self.phases.iter().enumerate() {
            phase.validate(&format!("phases[{index}]"), problems);
        }
        self.validate_quantization(problems);
        self.validate_teachers(problems);
        self.validate_encodings(problems);
        if self.data.augmentation.mixes() {
            for term in self.loss_terms() {
                term.validate_mixing(problems);
            }
        }
        if let Some(targets) = &self.soft_targets {
            targets.validate(&self.pools(), problems);
        }
        self.checkpoints.validate(problems);
        self.export.validate(problems);
        if let Some(publish) = &self.publish {
            publish.validate(self.pools().len() == 1, problems);
            let needed = "must be true where [publish] is given";
            problems.require(self.export.onnx, "export.onnx", false, needed);
            let fits = publish.precision == PublishedPrecision::F32 || self.export.int8.is_some();
            problems.require(fits, "publish.precision", "int8", "needs export.int8");
        }
    }
}

impl RunConfig {
    /// Checks that the ranges of quantization-aware phases are those of the model in int8.
    fn validate_quantization(&self, problems: &mut Problems) {
        let mut phases = self.phases.iter();
        let Some(first) = phases.position(|phase| phase.quantization_aware) else {
            return;
        };
        let key = |phase: usize| format!("phases[{phase}].quantization_aware");
        let exports = self.export.int8.is_some();
        problems.require(exports, &key(first), true, "needs export.int8");
        // `phases` continues after the first of them.
        if let Some(later) = phases.position(|phase| !phase.quantization_aware) {
            let message = format!(
                "must be true, as in phases[{first}]: the model in int8 has the ranges of the last phase"
            );
            problems.add(key(first + 1 + later), false, &message);
        }
    }

    /// Checks that network and data fit together.
    fn validate_fit(&self, problems: &mut Problems) {
        let (classes, names) = (self.network.classes, self.data.class_names.len());
        let message = format!("must be the number of data.class_names, {names}");
        problems.require(classes == names, "network.classes", classes, &message);
        let augmentation = self.data.augmentation;
        // Rows are standardized by their own values.
        let Ok([channels, height, width]) = self.network.input.image() else {
            if let Err(error) = augmentation.check_rows() {
                let key = format!("data.augmentation.{}", error.field);
                problems.add(key, error.value, &error.allowed);
            }
            return;
        };
        let Normalization { mean, std } = &self.data.normalization;
        for (key, values) in [("mean", mean), ("std", std)] {
            let key = format!("data.normalization.{key}");
            let message =
                format!("must hold one value for each of the {channels} channels of network.input");
            let fits = values.is_empty() || values.len() == channels;
            problems.require(fits, &key, format!("{values:?}"), &message);
        }
        if let Err(error) = augmentation.check([height, width]) {
            let key = format!("data.augmentation.{}", error.field);
            problems.add(key, error.value, &error.allowed);
        }
    }
}

impl CheckpointConfig {
    fn validate(&self, problems: &mut Problems) {
        for (key, count, lowest) in [
            ("checkpoints.keep_last", self.keep_last, 1),
            ("checkpoints.keep_best", self.keep_best, 0),
        ] {
            let allowed = format!("must be from {lowest} to 1000");
            problems.require((lowest..=1000).contains(&count), key, count, &allowed);
        }
        let steps = self.every_steps;
        let fits = i64::try_from(steps).is_ok();
        problems.require(fits, "checkpoints.every_steps", steps, "must be below 2^63");
    }
}

impl ExportConfig {
    fn validate(&self, problems: &mut Problems) {
        let tolerance = self.tolerance;
        let fits = tolerance.is_finite() && tolerance > 0.0;
        problems.require(fits, "export.tolerance", tolerance, "must be above 0");
        let relative = self.relative_tolerance;
        let fits = (0.0..1.0).contains(&relative);
        let allowed = "must be 0 or more and below 1";
        problems.require(fits, "export.relative_tolerance", relative, allowed);
        for (key, count, limit) in [
            ("export.compare_samples", self.compare_samples, 100_000),
            ("export.golden_samples", self.golden_samples, 64),
        ] {
            let allowed = format!("must be from 1 to {limit}");
            problems.require((1..=limit).contains(&count), key, count, &allowed);
        }
        if let Some(int8) = self.int8 {
            int8.validate(problems);
            let needed = "must be true where export.int8 is given";
            problems.require(self.onnx, "export.onnx", false, needed);
        }
    }
}

impl PublishConfig {
    /// The credentials for the inference service.
    pub fn credentials(&self) -> Credentials {
        Credentials {
            tls: self.tls.clone(),
            token: TokenSource::from_file(self.token_file.as_deref()),
            token_in_plain_text: self.token_in_plain_text,
        }
    }

    /// The private key that signs the model, if one is configured.
    ///
    /// # Errors
    /// If its file cannot be used.
    pub fn read_signing_key(&self) -> Result<Option<SigningKey>, KeyFileError> {
        let file = self.signing_key.as_deref();
        file.map(SigningKey::read).transpose()
    }

    fn validate_signing_key(&self, problems: &mut Problems) {
        if let (Some(file), Err(error)) = (&self.signing_key, self.read_signing_key()) {
            problems.add("publish.signing_key", file.display(), &error.to_string());
        }
    }

    fn validate(&self, has_one_teacher: bool, problems: &mut Problems) {
        if let Err(error) = self.credentials().check_address(&self.endpoint) {
            problems.add("publish.endpoint", &self.endpoint, &error.to_string());
        }
        if let Err(error) = ModelName::new(&self.model) {
            problems.add("publish.model", &self.model, &error.to_string());
        }
        if let Some(gate) = &self.gate {
            gate.validate(has_one_teacher, problems);
        }
    }
}
