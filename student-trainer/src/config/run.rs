//! Configuration of one run.

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
};

use artifacts::model_store::ModelName;
use common::config::{ConfigError, Layers, Problems, Validate, is_default};
use datasets::{Augmentation, Normalization};
use networks::NetworkSpec;
use serde::{Deserialize, Serialize};
use server::security::{
    client::{Credentials, TokenInPlainText, TokenSource},
    tls::ClientTls,
};
use teacher_pool::{NumericsPolicy, PoolConfig};
use torch_networks::PrecisionChoice;

use super::{ClassNames, Fallback, PhaseConfig, SoftTargetsConfig, SoftTargetsMode};

const SHIPPED: &str = include_str!("../../../configs/run.toml");

/// Everything that decides what a run does.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunConfig {
    /// Of every random choice.
    pub seed: u64,
    /// Threads that compute; 0 takes all cores. Another number gives other bits.
    pub threads: usize,
    /// Number format of convolutions and linear layers.
    pub precision: PrecisionChoice,
    /// The images.
    pub data: DataConfig,
    /// The network that is trained.
    pub network: NetworkSpec,
    /// Done in this order.
    pub phases: Vec<PhaseConfig>,
    /// Needed where a phase's loss needs soft targets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub teacher: Option<PoolConfig>,
    /// Views and recordings; without it, teachers are asked for every batch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub soft_targets: Option<SoftTargetsConfig>,
    /// When the run's state is kept on disk, to go on from after an interruption.
    pub checkpoints: CheckpointConfig,
    /// What is made of the weights at the end.
    pub export: ExportConfig,
    /// Where the exported model is uploaded, if anywhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub publish: Option<PublishConfig>,
}

/// The images and what is done to them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DataConfig {
    /// How they are stored.
    pub format: DataFormat,
    /// The folder that holds them; relative to the working directory.
    pub path: PathBuf,
    /// In label order.
    pub class_names: Vec<String>,
    /// Images held out of the training split to measure accuracy on; the same for every seed.
    pub validation_samples: usize,
    /// Images of the training split that are used; 0 takes all that the validation leaves.
    pub train_samples: usize,
    /// How pixels become the network's input.
    pub normalization: Normalization,
    /// Random changes to training images.
    pub augmentation: Augmentation,
}

/// How images are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DataFormat {
    /// IDX files as of MNIST and Fashion-MNIST.
    Idx,
}

/// When the state of a run is kept on disk, and how many states are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CheckpointConfig {
    /// Steps of a phase between two checkpoints; 0 for none but those at the end of epochs.
    pub every_steps: u64,
    /// The newest so many are kept, 1 or more.
    pub keep_last: usize,
    /// So many of the best are kept besides: by validation accuracy, or by training loss where
    /// there is no validation split.
    pub keep_best: usize,
}

/// What is made of the weights at the end of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExportConfig {
    /// Whether `model.onnx` and `manifest.json` are written.
    pub onnx: bool,
    /// Largest difference of a logit, ONNX Runtime against libtorch in f32, that counts as equal: so much
    /// and `relative_tolerance` times the largest logit of the image.
    pub tolerance: f32,
    /// See `tolerance`; 0 or more.
    pub relative_tolerance: f32,
    /// Real images on which the two are compared.
    pub compare_samples: usize,
    /// Real images that go into the manifest with their logits.
    pub golden_samples: usize,
}

/// Where the exported model is uploaded.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PublishConfig {
    /// `host:port` of an inference service's admin port.
    pub endpoint: String,
    /// Name under which the model is served.
    pub model: String,
    /// File with the token that is shown to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_file: Option<PathBuf>,
    /// Whether the token may travel to another machine without TLS.
    #[serde(default, skip_serializing_if = "is_default")]
    pub token_in_plain_text: TokenInPlainText,
    /// Whom the run trusts, and its own certificate; without it, plain text is spoken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<ClientTls>,
}

impl RunConfig {
    /// Merges shipped defaults, `file`, `RETORT_RUN__...` and `overrides` (`key.path=value`).
    ///
    /// # Errors
    /// Everything that is wrong with them.
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

    /// Lays `text` over the shipped defaults. Looks at no file that it names: whoever sent it may not
    /// be allowed to ask for them.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn from_toml(text: &str) -> Result<Self, ConfigError> {
        Self::from_submitted(text, &[])
    }

    /// As [`from_toml`](Self::from_toml), with `overrides` (`key.path=value`) over it.
    ///
    /// # Errors
    /// Everything that is wrong with them.
    pub fn from_submitted(text: &str, overrides: &[String]) -> Result<Self, ConfigError> {
        let layers = Layers {
            overrides: overrides.iter().map(Into::into).collect(),
            ..Layers::shipped(SHIPPED)
        };
        layers.load_text(text)
    }

    /// Looks at the tokens, certificates and keys that it names.
    ///
    /// # Errors
    /// Every file that cannot be used.
    pub fn check_credentials(&self) -> Result<(), ConfigError> {
        let mut problems = Problems::default();
        if let Some(teacher) = &self.teacher {
            teacher.credentials().validate("teacher", &mut problems);
        }
        if let Some(publish) = &self.publish {
            publish.credentials().validate("publish", &mut problems);
        }
        match problems.is_empty() {
            true => Ok(()),
            false => Err(ConfigError::Invalid {
                file: None,
                problems,
            }),
        }
    }

    /// Every file and folder that it names, with its key.
    pub fn paths(&self) -> Vec<(String, &Path)> {
        let mut paths = vec![("data.path".to_owned(), self.data.path.as_path())];
        let recordings = self.soft_targets.iter().flat_map(|targets| &targets.folder);
        paths.extend(recordings.map(|folder| ("soft_targets.folder".to_owned(), folder.as_path())));
        let teacher = self.teacher.as_ref();
        let teacher = teacher.map(|pool| ("teacher", &pool.token_file, &pool.tls));
        let publish = self.publish.as_ref();
        let publish = publish.map(|to| ("publish", &to.token_file, &to.tls));
        for (table, token_file, tls) in teacher.into_iter().chain(publish) {
            let token_file = token_file.iter().map(|file| ("token_file", file.as_path()));
            paths.extend(token_file.map(|(key, file)| (format!("{table}.{key}"), file)));
            let tls = tls.iter().flat_map(ClientTls::files);
            paths.extend(tls.map(|(key, file)| (format!("{table}.tls.{key}"), file)));
        }
        paths
    }

    /// The whole configuration as TOML; [`from_toml`](Self::from_toml) gives it back.
    pub fn to_toml(&self) -> String {
        // Holds: every key is a string and every integer was checked to fit TOML's 64 signed bits.
        toml::to_string(self).expect("a checked configuration is TOML")
    }

    /// Whether any phase learns from soft targets.
    pub fn needs_soft_targets(&self) -> bool {
        self.phases
            .iter()
            .any(|phase| phase.loss.needs_soft_targets())
    }

    /// Whether a teacher must be there.
    pub fn needs_teacher(&self) -> bool {
        self.needs_soft_targets() && self.soft_targets_mode() != SoftTargetsMode::Recorded
    }

    /// What the names of a teacher's classes mean.
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

    /// Whether the run's soft targets can be recorded: from whom, and where to.
    ///
    /// # Errors
    /// What stands in the way.
    pub fn can_record(&self) -> Result<(), &'static str> {
        if !self.needs_soft_targets() {
            return Err("no phase needs any");
        }
        let teacher = self.teacher.as_ref().ok_or("[teacher] is missing")?;
        let targets = self.soft_targets.as_ref();
        let targets = targets.ok_or("[soft_targets] is missing")?;
        if targets.folder.is_none() {
            return Err("soft_targets.folder is missing");
        }
        if targets.views.is_none() {
            return Err("soft_targets.views is missing");
        }
        if teacher.numerics != NumericsPolicy::Same {
            return Err("teacher.numerics must be \"same\"");
        }
        if targets
            .encoding
            .is_some_and(|encoding| encoding != teacher.encoding)
        {
            return Err(
                "soft_targets.encoding must be teacher.encoding: what comes over the wire is recorded",
            );
        }
        Ok(())
    }
}

impl Validate for RunConfig {
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
        problems.require(
            !self.phases.is_empty(),
            "phases",
            "[]",
            "needs at least one",
        );
        for (index, phase) in self.phases.iter().enumerate() {
            phase.validate(&format!("phases[{index}]"), problems);
        }
        match &self.teacher {
            Some(pool) => pool.validate(problems),
            None if self.needs_teacher() => {
                let message = "is missing, and the loss of a phase needs a teacher's soft targets";
                problems.add("teacher", "(none)", message);
            }
            None => {}
        }
        if let Some(targets) = &self.soft_targets {
            targets.validate(self.teacher.as_ref(), problems);
        }
        self.checkpoints.validate(problems);
        self.export.validate(problems);
        if let Some(publish) = &self.publish {
            publish.validate(problems);
            let needed = "must be true where [publish] is given";
            problems.require(self.export.onnx, "export.onnx", false, needed);
        }
    }
}

impl RunConfig {
    /// What the network and the data say of each other.
    fn validate_fit(&self, problems: &mut Problems) {
        let [channels, height, width] = self.network.input;
        let (classes, names) = (self.network.classes, self.data.class_names.len());
        let message = format!("must be the number of data.class_names, {names}");
        problems.require(classes == names, "network.classes", classes, &message);
        let Normalization { mean, std } = &self.data.normalization;
        for (key, values) in [("mean", mean), ("std", std)] {
            let key = format!("data.normalization.{key}");
            let message =
                format!("must hold one value for each of the {channels} channels of network.input");
            let fits = values.is_empty() || values.len() == channels;
            problems.require(fits, &key, format!("{values:?}"), &message);
        }
        let pad = self.data.augmentation.pad;
        let message = format!(
            "must be below the height and width of network.input, {height} and {width}: a crop could hold \
             nothing of the image"
        );
        let fits = pad == 0 || pad < height.min(width);
        problems.require(fits, "data.augmentation.pad", pad, &message);
    }
}

impl DataConfig {
    fn validate(&self, problems: &mut Problems) {
        let Normalization { mean, std } = &self.normalization;
        for (key, values) in [("mean", mean), ("std", std)] {
            let fits = !values.is_empty() && values.iter().all(|value| value.is_finite());
            let key = format!("data.normalization.{key}");
            let allowed = "must hold one finite value a channel";
            problems.require(fits, &key, format!("{values:?}"), allowed);
        }
        let fits = std.iter().all(|std| *std > 0.0);
        let allowed = "must hold values above 0";
        problems.require(fits, "data.normalization.std", format!("{std:?}"), allowed);
        let fits = !self.class_names.is_empty();
        problems.require(fits, "data.class_names", "[]", "needs at least one");
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
    }
}

impl PublishConfig {
    /// What is shown to the inference service.
    pub fn credentials(&self) -> Credentials {
        Credentials {
            tls: self.tls.clone(),
            token: TokenSource::from_file(self.token_file.as_deref()),
            token_in_plain_text: self.token_in_plain_text,
        }
    }

    fn validate(&self, problems: &mut Problems) {
        if let Err(error) = self.credentials().check_address(&self.endpoint) {
            problems.add("publish.endpoint", &self.endpoint, &error.to_string());
        }
        if let Err(error) = ModelName::new(&self.model) {
            problems.add("publish.model", &self.model, &error.to_string());
        }
    }
}
