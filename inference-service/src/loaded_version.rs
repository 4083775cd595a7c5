//! A loaded version of a model, with its queue, the threads of its sessions and its statistics.

use std::{io, sync::Arc};

use artifacts::{manifest::ArtifactManifest, model_store::ModelName};
use onnx_runtime::{ModelInterface, Session};
use tokio::sync::watch;

use crate::{batcher::Batcher, config::ModelConfig, statistics::VersionStatistics};

/// A version that is loaded and can answer requests.
#[derive(Debug)]
pub(crate) struct LoadedVersion {
    pub(crate) model: ModelName,
    pub(crate) version: u64,
    pub(crate) interface: ModelInterface,
    /// The manifest that was published with the model.
    pub(crate) manifest: Arc<ArtifactManifest>,
    pub(crate) config: Arc<ModelConfig>,
    pub(crate) batcher: Batcher,
    pub(crate) statistics: Arc<VersionStatistics>,
    /// Estimated memory of all its sessions.
    pub(crate) memory_bytes: u64,
}

/// The sessions of a version, all alike, before their threads run.
#[derive(Debug)]
pub(crate) struct Prepared {
    pub(crate) interface: ModelInterface,
    pub(crate) manifest: Arc<ArtifactManifest>,
    /// The configuration that the sessions were loaded with.
    pub(crate) config: Arc<ModelConfig>,
    pub(crate) sessions: Vec<Session>,
    /// Estimated memory of all sessions.
    pub(crate) memory_bytes: u64,
}

impl LoadedVersion {
    /// Starts one thread per session. Must be called within the async runtime.
    ///
    /// `statistics` counts the version's requests. `changes` receives a message when a thread fails.
    ///
    /// # Errors
    /// If the operating system refuses a thread.
    pub(crate) fn start(
        model: &ModelName,
        version: u64,
        prepared: Prepared,
        statistics: Arc<VersionStatistics>,
        changes: &watch::Sender<()>,
    ) -> io::Result<Arc<Self>> {
        let Prepared {
            interface,
            manifest,
            config,
            sessions,
            memory_bytes,
        } = prepared;
        let batcher = Batcher::start(sessions, &config, &statistics, changes)?;
        Ok(Arc::new(Self {
            model: model.clone(),
            version,
            interface,
            manifest,
            config,
            batcher,
            statistics,
            memory_bytes,
        }))
    }
}
