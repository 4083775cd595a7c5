//! Begins a run whose output is in a bucket: takes the lease, and brings the scratch folder to the bucket's state.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use common::atomic_file;
use object_storage::{Bucket, BucketLocation};
use tokio_util::sync::CancellationToken;

use super::{
    download::{download, download_file},
    error::BucketRunError,
    lease::{Claim, Lease},
    persistence::Persistence,
    record::{self, Found, RunRecord},
    scratch::Scratch,
    uploads::{Contents, Uploads},
};
use crate::events::NoticeSender;

/// How long the client repeats one request. The run repeats what fails then.
const REQUEST_PATIENCE: Duration = Duration::from_secs(10);

/// How long a process that ends at once waits for the answer to the end of its lease.
const LAST_PATIENCE: Duration = Duration::from_secs(2);

const MANIFEST: &str = "manifest.json";
const CHECKPOINTS: &str = "checkpoints/";

/// A run's output in a bucket.
#[derive(Debug, Clone)]
pub struct BucketOutput {
    /// The prefix of the run; its last part is the name of the run.
    pub location: BucketLocation,
    /// The folder for the scratch folders of this machine's runs; by default, one for temporary files.
    pub scratch: Option<PathBuf>,
    /// Seconds for which the run keeps other processes away after each renewal.
    pub lease_seconds: u64,
    /// How long the run waits for a bucket that does not answer, at its beginning and at its end.
    pub patience: Duration,
}

/// What a run has in its bucket and on this machine when it begins.
#[derive(Debug)]
pub(super) struct Attachment {
    pub(super) url: String,
    pub(super) scratch: Scratch,
    pub(super) lease: Arc<Lease>,
    pub(super) uploads: Uploads,
}

impl BucketOutput {
    /// The URL of the run.
    pub fn url(&self) -> String {
        self.location.to_string()
    }

    /// Checks that the environment has what a connection to the bucket needs. Sends nothing.
    ///
    /// # Errors
    /// See [`BucketRunError`].
    pub fn check_environment(&self) -> Result<(), BucketRunError> {
        connect(&self.location).map(drop)
    }

    /// Takes the lease of the run in `bucket`. If another machine wrote the newest state, downloads it. `may_continue` says
    /// whether a run continues whose manifest is in a folder. Cancelling `stop` ends a request at once; later it does not,
    /// because the run that stops still copies its last state.
    ///
    /// # Errors
    /// See [`BucketRunError`].
    pub(super) fn attach(
        &self,
        bucket: Bucket,
        may_continue: impl Fn(&Path) -> bool,
        stop: &CancellationToken,
        notices: &NoticeSender,
    ) -> Result<Attachment, BucketRunError> {
        let url = self.url();
        let persistence = Persistence {
            url: &url,
            patience: self.patience,
            stop,
        };
        let Some(name) = self.location.prefix.filename() else {
            return Err(BucketRunError::NoName { url });
        };
        let scratch = Scratch::open(self.scratch.as_deref(), &url, name)?;
        let starting = Arc::new(bucket.clone().stopped_by(stop.clone()));
        let found = persistence.repeat(|| RunRecord::read(&starting))?;
        match &found {
            Some(found) => {
                check_unfinished(&starting, found, &scratch, may_continue, persistence)?;
            }
            None => {
                check_empty(&starting, persistence)?;
                scratch.check_unused(&url)?;
            }
        }
        let claim = Claim::new(scratch.writer()?, self.lease_seconds);
        let lease = Lease::take(&starting, claim, persistence, notices)?;
        let prepare = || -> Result<Contents, BucketRunError> {
            if !lease.continues() {
                let record = lease.record();
                if !record.files.is_empty() {
                    let (files, generation) = (record.files.len(), record.generation);
                    notices.notice(format!(
                        "downloads the run from {url}: {files} files of generation {generation}"
                    ));
                }
                let download = || download(&starting, &record, scratch.run(), persistence);
                lease.renew_during(download)??;
                scratch.set_writer(&record.writer)?;
            }
            persistence.repeat(|| Contents::find(&starting, &lease))
        };
        match prepare() {
            Ok(contents) => {
                let bucket = Arc::new(bucket);
                let lease = Arc::new(lease.through(&bucket));
                Ok(Attachment {
                    uploads: Uploads::new(&bucket, &lease, contents),
                    url,
                    scratch,
                    lease,
                })
            }
            Err(error) => {
                let bucket = bucket.limited_to(self.patience.min(LAST_PATIENCE));
                // If this fails too, the lease ends by itself.
                let _ = lease.through(&Arc::new(bucket)).release();
                Err(error)
            }
        }
    }
}

/// Connects to the bucket. Sends nothing yet.
///
/// # Errors
/// If the environment does not have what the connection needs.
pub(super) fn connect(location: &BucketLocation) -> Result<Bucket, BucketRunError> {
    Ok(Bucket::open(location, REQUEST_PATIENCE)?)
}

/// Fails if the run in the bucket is finished, unless it `may_continue`.
fn check_unfinished(
    bucket: &Bucket,
    found: &Found,
    scratch: &Scratch,
    may_continue: impl Fn(&Path) -> bool,
    persistence: Persistence<'_>,
) -> Result<(), BucketRunError> {
    let files = &found.record.files;
    let Some(manifest) = files.get(MANIFEST) else {
        return Ok(());
    };
    let folder = scratch.temporary()?;
    let content = persistence.repeat(|| download_file(bucket, manifest))?;
    atomic_file::write(&folder.path().join(MANIFEST), &content)?;
    let has_checkpoint = files.keys().any(|path| path.starts_with(CHECKPOINTS));
    if may_continue(folder.path()) && has_checkpoint {
        return Ok(());
    }
    Err(BucketRunError::AlreadyFinished {
        url: persistence.url.to_owned(),
    })
}

/// Fails if the prefix has anything but what an interrupted upload left.
fn check_empty(bucket: &Bucket, persistence: Persistence<'_>) -> Result<(), BucketRunError> {
    let listed = persistence.repeat(|| Ok(bucket.list(&object_store::path::Path::default())?))?;
    let mut paths = listed.into_iter().map(|object| object.location);
    match paths.find(|path| record::content(path).is_none()) {
        Some(object) => Err(BucketRunError::Foreign {
            url: persistence.url.to_owned(),
            object: object.to_string(),
        }),
        None => Ok(()),
    }
}
