//! Runs the service: start, readiness, and an orderly stop.

use std::{future, io, path::Path, sync::Arc, time::Duration};

use artifacts::model_store::{self, Access, ModelStore, StoreError};
use common::{
    ready_file::ReadyFile,
    writable_folder::{self, FolderError},
};
use model_signing::KeyFileError;
use object_storage::{InvalidLocation, Location};
use onnx_runtime::LibraryError;
use server::security::SecurityError;
use tokio::{
    task::{self, JoinError},
    time::{Instant, sleep, timeout_at},
};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::{
    capture::{Capture, Destination, DestinationError},
    catalog::Catalog,
    config::InferenceConfig,
    error::PublishError,
    inference::Inference,
    ports::{Ports, Shared},
    publisher::{Publisher, SignaturePolicy},
    readiness::Readiness,
    refusals::Refusals,
    starting::Started,
};

/// Time to write and upload the last captured samples if the requests in flight took all of theirs.
const LAST_SAMPLES: Duration = Duration::from_secs(2);

/// Why the service cannot run.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// A port is taken, or a certificate, key or tokens file cannot be used.
    #[error(transparent)]
    Security(#[from] SecurityError),
    /// ONNX Runtime is missing.
    #[error(transparent)]
    Library(#[from] LibraryError),
    /// A trusted key cannot be used; the text names the file.
    #[error(transparent)]
    TrustedKey(#[from] KeyFileError),
    /// The folder of the model store or of its copies cannot be written.
    #[error(transparent)]
    Folder(#[from] FolderError),
    /// The model store cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The setting names no store.
    #[error("store: {0}")]
    Location(#[source] InvalidLocation),
    /// The stored models cannot be read.
    #[error("cannot load the stored models: {0}")]
    Restore(#[source] PublishError),
    /// The reflection service rejects the descriptors.
    #[error("cannot start the reflection service: {0}")]
    Reflection(#[from] tonic_reflection::server::Error),
    /// The ready file cannot be written.
    #[error(transparent)]
    ReadyFile(io::Error),
    /// Captured samples cannot be kept where they should.
    #[error(transparent)]
    CaptureDestination(#[from] DestinationError),
    /// The operating system refuses a thread that captures samples.
    #[error("cannot start a thread to capture samples: {0}")]
    Capture(#[source] io::Error),
    /// A server failed.
    #[error("the {0} server stopped unexpectedly")]
    Stopped(&'static str),
}

/// Serves until `shutdown` is cancelled, then answers the requests in flight within the configured time.
///
/// While the stored models are loaded, the ports answer calls about the service and reject all others. When
/// every model has been loaded, `ready_file` is written.
///
/// # Errors
/// See [`ServerError`].
pub async fn run(
    config: &InferenceConfig,
    ready_file: Option<&Path>,
    shutdown: CancellationToken,
) -> Result<(), ServerError> {
    let ready_file = ready_file.map(ReadyFile::prepare).transpose();
    let ready_file = ready_file.map_err(ServerError::ReadyFile)?;
    let signatures = SignaturePolicy::load(&config.signatures)?;
    let captured = Destination::open(&config.capture)?;
    for excess in config.excess_threads() {
        warn!("{excess}");
    }
    let ports = Ports::bind(config).await?;
    onnx_runtime::load_library()?;

    let catalog = Arc::new(Catalog::default());
    let store = tokio::select! {
        opened = open_store(config) => opened?,
        () = shutdown.cancelled() => return Ok(()),
    };
    let publisher = Publisher::new(store, Arc::clone(&catalog), config, signatures);
    let readiness = Readiness::new(Arc::clone(&catalog), config.readiness);
    let capture = captured.map(Capture::start).transpose();
    let capture = capture.map_err(ServerError::Capture)?;
    let inference = Inference::new(catalog, readiness, config.log.access, capture);
    let inference = Arc::new(inference);
    let shared = Shared {
        config,
        inference: Arc::clone(&inference),
        publisher: Arc::new(publisher),
        started: Started::default(),
        refusals: Refusals::default(),
        stop: CancellationToken::new(),
    };
    let served = serve(ports, &shared, ready_file, &shutdown).await;
    let now = Instant::now();
    let deadline = served.as_ref().map_or(now, |deadline| *deadline);
    keep_last_samples(&inference, deadline.max(now + LAST_SAMPLES)).await;
    served.map(drop)
}

/// Serves on `ports` until `shutdown` is cancelled and the requests in flight are answered. Returns until when these
/// might have been answered.
async fn serve(
    ports: Ports,
    shared: &Shared<'_>,
    mut ready_file: Option<ReadyFile>,
    shutdown: &CancellationToken,
) -> Result<Instant, ServerError> {
    let Shared {
        config,
        inference,
        publisher,
        ..
    } = shared;
    let addresses = ports.addresses;
    let (health, mut servers) = ports.serve(shared)?;
    let [(_, grpc), (_, http), (_, admin), (_, metrics)] = addresses;
    info!(%grpc, %http, %admin, %metrics, "listening");

    let restored = tokio::select! {
        restored = publisher.restore() => Some(restored.map_err(ServerError::Restore)?),
        () = shutdown.cancelled() => None,
        Some(ended) = servers.join_next() => return Err(stopped(ended)),
    };
    if let Some(states) = restored.filter(|_| !shutdown.is_cancelled()) {
        shared.started.set();
        inference.readiness.start();
        health.set_serving(inference.readiness.is_ready());
        tokio::spawn(Arc::clone(publisher).retry());
        if let Some(states) = states {
            tokio::spawn(Arc::clone(publisher).follow(states));
        }
        if let Some(file) = &mut ready_file {
            file.write(&addresses).map_err(ServerError::ReadyFile)?;
        }
        info!(%grpc, %http, %admin, %metrics, "serving");
        let follow = |ready| {
            health.set_serving(ready);
            future::ready(())
        };
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = inference.readiness.follow(follow) => {}
            Some(ended) = servers.join_next() => return Err(stopped(ended)),
        }
        inference.readiness.stop();
        health.set_serving(false);
        sleep(config.shutdown.grace()).await;
    }
    health.end();
    shared.stop.cancel();
    let deadline = Instant::now() + config.shutdown.drain();
    let drained = timeout_at(deadline, async {
        while servers.join_next().await.is_some() {}
    });
    match drained.await {
        Ok(()) => info!("stopped"),
        Err(_) => warn!("stopped; not every request was answered in time"),
    }
    Ok(deadline)
}

/// Writes and uploads the captured samples that wait for others, also after a failure. A file system or a bucket may not
/// answer.
async fn keep_last_samples(inference: &Arc<Inference>, deadline: Instant) {
    type Step = fn(&Capture);
    let write = "the last captured samples were not written in time; they are lost";
    let upload = "not all captured samples were uploaded in time; the others stay in the spool";
    for (finish, too_late) in [
        (Capture::finish_writing as Step, write),
        (Capture::finish_uploading, upload),
    ] {
        let inference = Arc::clone(inference);
        let finish = task::spawn_blocking(move || {
            if let Some(capture) = &inference.capture {
                finish(capture);
            }
        });
        // The log has the message of a panic.
        if timeout_at(deadline, finish).await.is_err() {
            warn!("{too_late}");
            return;
        }
    }
}

/// Opens the model store on a blocking thread: a bucket may take seconds to answer.
async fn open_store(config: &InferenceConfig) -> Result<Box<dyn ModelStore>, ServerError> {
    let location = config.store_location().map_err(ServerError::Location)?;
    let options = config.model_store.options();
    match (&location, options.access) {
        (Location::Folder(folder), Access::ReadWrite) => {
            writable_folder::check("store", folder)?;
        }
        (Location::Folder(_), Access::ReadOnly) => {}
        (Location::Bucket(_), _) => {
            writable_folder::check("model_store.cache", &options.cache)?;
        }
    }
    let opened = task::spawn_blocking(move || model_store::open(&location, &options)).await;
    Ok(opened.map_err(|_| ServerError::Stopped("model store"))??)
}

fn stopped(ended: Result<&'static str, JoinError>) -> ServerError {
    // The log has the message of a panic.
    ServerError::Stopped(ended.unwrap_or("first"))
}
