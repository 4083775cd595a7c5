//! Errors that end `retort serve`.

use std::{io, net::SocketAddr, path::PathBuf};

use artifacts::manifest::ManifestError;

/// Why models cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// No model is there.
    #[error(
        "{} has no model: expected model.onnx and manifest.json in it, in its folder artifact or run/artifact, \
         or in folders of these; has the run ended?", folder.display()
    )]
    NoArtifact {
        /// The folder.
        folder: PathBuf,
    },
    /// A file of the model is missing.
    #[error("{} is missing; run `retort distill` again", file.display())]
    Missing {
        /// The file.
        file: PathBuf,
    },
    /// The model is not the one that the manifest describes.
    #[error(
        "{} is damaged: it has {found}, but its manifest has {expected}; run `retort distill` again",
        file.display()
    )]
    Damaged {
        /// The model's file.
        file: PathBuf,
        /// Its size or digest.
        found: String,
        /// The size or digest in the manifest.
        expected: String,
    },
    /// The manifest cannot be used.
    #[error("{}: {error}", file.display())]
    Manifest {
        /// The manifest's file.
        file: PathBuf,
        /// What is wrong with it.
        error: ManifestError,
    },
    /// A port cannot be used.
    #[error(
        "cannot listen on {address}: {error}; choose other ports with --port, or free ones with --port 0"
    )]
    Port {
        /// The address.
        address: SocketAddr,
        /// The operating system's error.
        error: io::Error,
    },
}
