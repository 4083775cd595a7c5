//! The weights that a run starts from.

use std::{
    io,
    path::{Path, PathBuf},
};

use common::{digest::Sha256, folders};
use networks::{
    SpecError, Weights,
    weights::public::{self, OtherEnds, PublicWeights, PublicWeightsError},
};

use crate::config::RunConfig;

/// Random weights, or those of a file.
pub(super) struct InitialWeights {
    /// The weights.
    pub(super) weights: Weights,
    /// SHA-256 of the file; `None` for random weights.
    pub(super) sha256: Option<Sha256>,
    /// For messages: where they come from; `None` for random weights.
    pub(super) notice: Option<String>,
}

/// Why a run cannot start from its initial weights. The text names the file.
#[derive(Debug, thiserror::Error)]
pub enum InitialWeightsError {
    /// The network's specification is wrong.
    #[error("network: {0}")]
    Spec(#[from] SpecError),
    /// The file cannot be read.
    #[error("initial_weights.path = {}: {error}", file.display())]
    Unreadable {
        /// The file.
        file: PathBuf,
        /// The problem.
        error: io::Error,
    },
    /// The file does not hold the network's weights.
    #[error("initial_weights.path = {}: {error}", file.display())]
    Weights {
        /// The file.
        file: PathBuf,
        /// The problem.
        error: Box<PublicWeightsError>,
    },
}

impl InitialWeights {
    /// Reads the file that `config` names, if any. Its first and last layer become random if the network has
    /// other ones.
    pub(super) fn of(config: &RunConfig) -> Result<Self, InitialWeightsError> {
        let Some(initial) = &config.initial_weights else {
            return Ok(Self {
                weights: Weights::initial(&config.network, config.seed)?,
                sha256: None,
                notice: None,
            });
        };
        let file = &initial.path;
        let bytes = folders::read(file).map_err(|error| InitialWeightsError::Unreadable {
            file: file.clone(),
            error,
        })?;
        let other_ends = OtherEnds::Initialize { seed: config.seed };
        let read = public::read(&bytes, &config.network, other_ends).map_err(|error| {
            InitialWeightsError::Weights {
                file: file.clone(),
                error: Box::new(error),
            }
        })?;
        let sha256 = Sha256::of(&bytes);
        Ok(Self {
            notice: Some(notice(file, &sha256, &read)),
            weights: read.weights,
            sha256: Some(sha256),
        })
    }
}

fn notice(file: &Path, sha256: &Sha256, read: &PublicWeights) -> String {
    let random = match &read.initialized[..] {
        [] => "; no layer is random".to_owned(),
        names => format!("; random: {}", names.join(", ")),
    };
    format!(
        "initial weights: {} (SHA-256 {sha256}), with {}{random}",
        file.display(),
        read.naming
    )
}
