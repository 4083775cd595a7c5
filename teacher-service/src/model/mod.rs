//! The teacher's model as configured: where it is, how its inputs are prepared, what its classes mean.

pub mod card;
pub mod card_files;
pub mod class_map;
pub mod format;
pub mod network;
pub mod output_values;
pub mod pixels;

use std::path::PathBuf;

use common::config::Problems;
use serde::Deserialize;
use server::security::{client::TokenInPlainText, tls::ClientTls};

use card::CardConfig;
use class_map::ClassMap;
use format::FormatChoice;
use network::NetworkConfig;

/// The teacher's model.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelConfig {
    /// A file, a folder, or the address of a model on an inference server.
    pub path: PathBuf,
    /// What `path` is.
    pub format: FormatChoice,
    /// The network of a safetensors file.
    #[serde(default)]
    pub network: Option<NetworkConfig>,
    /// The output with one value per class; `None` if there is only one that can be it.
    pub output: Option<String>,
    /// How samples become the model's input. Models of Retort's own need none.
    #[serde(default)]
    pub preprocessing: CardConfig,
    /// The teacher's classes as groups of the model's; empty: the model's classes.
    #[serde(default)]
    pub classes: ClassMap,
    /// For a model on an inference server.
    #[serde(default)]
    pub server: InferenceServerConfig,
}

/// How to reach an inference server.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct InferenceServerConfig {
    /// Longest time for one call, and for the server to come back, in seconds.
    pub timeout_seconds: u64,
    /// TLS of the connection; `None` means plain text.
    pub tls: Option<ClientTls>,
    /// File with a token that each call shows.
    pub token_file: Option<PathBuf>,
    /// Whether the token may travel in plain text to another machine.
    pub token_in_plain_text: TokenInPlainText,
}

impl Default for InferenceServerConfig {
    fn default() -> Self {
        Self {
            timeout_seconds: 60,
            tls: None,
            token_file: None,
            token_in_plain_text: TokenInPlainText::default(),
        }
    }
}

impl ModelConfig {
    /// The model at `path`, with no other settings.
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            format: FormatChoice::Auto,
            network: None,
            output: None,
            preprocessing: CardConfig::default(),
            classes: ClassMap::default(),
            server: InferenceServerConfig::default(),
        }
    }

    /// Adds all problems of `self` to `problems`.
    pub(crate) fn validate(&self, problems: &mut Problems) {
        let path = self.path.display();
        problems.require(
            !self.path.as_os_str().is_empty(),
            "model.path",
            format!("\"{path}\""),
            "give the teacher's model, for example --model runs/demo/teacher/artifact, \
             --model resnet50.onnx or --model grpc://triton:8001/resnet50",
        );
        problems.require_within(
            "model.server.timeout_seconds",
            self.server.timeout_seconds,
            1..=3600,
        );
        if let Some(network) = &self.network {
            network.validate(problems);
        }
        self.preprocessing.validate(problems);
        self.classes.validate(problems);
    }
}
