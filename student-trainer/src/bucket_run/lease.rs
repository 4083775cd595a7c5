//! The right of one process to write a run in a bucket.

use std::{
    collections::BTreeMap,
    fs,
    hash::{BuildHasher, RandomState},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use object_storage::Bucket;
use object_store::{PutMode, UpdateVersion};

use super::{
    error::BucketRunError,
    persistence::Persistence,
    record::{self, Found, LeaseTerms, RunRecord, StoredFile},
};
use crate::events::NoticeSender;

/// Longest time between two looks at the lease of another process.
const LONGEST_LOOK: Duration = Duration::from_secs(1);

/// Writes of a record before the store counts as one without conditional writes. Each request of this process that the
/// store executes late takes one, and so does each process that is quicker.
const ATTEMPTS: usize = 5;

/// A lease of this process. All writes of the record go through it.
#[derive(Debug)]
pub(super) struct Lease {
    bucket: Arc<Bucket>,
    claim: Claim,
    held: Mutex<Held>,
}

/// What a process asks for.
#[derive(Debug, Clone)]
pub(super) struct Claim {
    /// The scratch folder of the process.
    pub(super) writer: String,
    terms: LeaseTerms,
}

#[derive(Debug)]
struct Held {
    found: Found,
    /// The number of the newest record that was sent.
    revision: u64,
    /// Whether a record was sent of which it is not known whether the bucket has it.
    is_unsettled: bool,
}

/// The record of another process that has a lease, as it was first seen.
struct Watched {
    tag: UpdateVersion,
    since: Instant,
}

impl Claim {
    /// A claim of this process, which uses the scratch folder called `writer`, to a lease of so many seconds.
    pub(super) fn new(writer: String, seconds: u64) -> Self {
        let host = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        Self {
            writer,
            terms: LeaseTerms {
                process: random_id(),
                holder: format!("process {} on {}", std::process::id(), host.trim()),
                seconds,
            },
        }
    }

    /// Sends a record with this claim in place of `found`; returns the record of the bucket if it has the claim now.
    fn send(
        &self,
        bucket: &Bucket,
        found: Option<&Found>,
    ) -> Result<Option<Found>, BucketRunError> {
        let mut next = found.map_or_else(RunRecord::new, |found| found.record.clone());
        next.revision += 1;
        next.writer.clone_from(&self.writer);
        next.lease = Some(self.terms.clone());
        let mode = match found {
            Some(found) => PutMode::Update(found.tag.clone()),
            None => PutMode::Create,
        };
        // Whatever the answer is, the bucket may have the record: the reply to a repeated request may have been lost.
        bucket.put(&record::path(), next.to_json(), mode)?;
        let now = RunRecord::read(bucket)?;
        Ok(now.filter(|now| self.wrote(&now.record)))
    }

    /// Whether this process wrote `record`: it may have released the lease with it.
    fn wrote(&self, record: &RunRecord) -> bool {
        let lease = record.lease.as_ref();
        let is_own = lease.is_none_or(|lease| lease.process == self.terms.process);
        record.writer == self.writer && is_own
    }
}

impl Lease {
    /// Takes the lease. Waits until the lease of another process has ended.
    ///
    /// # Errors
    /// [`BucketRunError::InUse`] if another process renews its lease; those of the bucket; [`BucketRunError::Stopped`].
    pub(super) fn take(
        bucket: &Arc<Bucket>,
        claim: Claim,
        persistence: Persistence<'_>,
        notices: &NoticeSender,
    ) -> Result<Self, BucketRunError> {
        let mut watched: Option<Watched> = None;
        let mut attempts = 0;
        while attempts < ATTEMPTS {
            let found = persistence.repeat(|| RunRecord::read(bucket))?;
            if let Some(found) = &found
                && let Some(lease) = found.record.lease_of_another(&claim.writer)
            {
                let Watched { tag, since } = watched.get_or_insert_with(|| {
                    notices.notice(format!(
                        "another trainer ({}) had the lease of {}; it ends in {} s if that trainer does not renew it",
                        lease.holder, persistence.url, lease.seconds
                    ));
                    Watched {
                        tag: found.tag.clone(),
                        since: Instant::now(),
                    }
                });
                if *tag != found.tag {
                    return Err(BucketRunError::InUse {
                        url: persistence.url.to_owned(),
                        holder: lease.holder.clone(),
                    });
                }
                // Only this clock counts: those of two machines may differ.
                if since.elapsed() < lease.duration() {
                    persistence.sleep(LONGEST_LOOK.min(lease.duration() / 20))?;
                    continue;
                }
            }
            // If another process was quicker, the next round finds its lease.
            attempts += 1;
            if let Some(found) = persistence.repeat(|| claim.send(bucket, found.as_ref()))? {
                return Ok(Self {
                    bucket: Arc::clone(bucket),
                    claim,
                    held: Mutex::new(Held {
                        revision: found.record.revision,
                        found,
                        is_unsettled: false,
                    }),
                });
            }
        }
        Err(refuses_writes(bucket))
    }

    /// The record that this process wrote last, as far as it knows.
    pub(super) fn record(&self) -> RunRecord {
        self.held().found.record.clone()
    }

    /// The duration of the lease.
    pub(super) fn duration(&self) -> Duration {
        self.claim.terms.duration()
    }

    /// Begins the duration anew.
    ///
    /// # Errors
    /// [`BucketRunError::LostLease`]; those of the bucket.
    pub(super) fn renew(&self) -> Result<(), BucketRunError> {
        self.update(|_| ())
    }

    /// Makes `files`, whose contents the bucket has, those of the run.
    ///
    /// # Errors
    /// [`BucketRunError::LostLease`]; those of the bucket.
    pub(super) fn commit(
        &self,
        files: &BTreeMap<String, StoredFile>,
    ) -> Result<(), BucketRunError> {
        self.update(|record| record.replace_files(files))
    }

    /// Ends the lease, so that the next process need not wait.
    ///
    /// # Errors
    /// [`BucketRunError::LostLease`]; those of the bucket.
    pub(super) fn release(&self) -> Result<(), BucketRunError> {
        self.update(|record| record.lease = None)
    }

    fn update(&self, change: impl Fn(&mut RunRecord)) -> Result<(), BucketRunError> {
        let mut held = self.held();
        if held.is_unsettled {
            self.settle(&mut held)?;
        }
        for _ in 0..ATTEMPTS {
            let mut next = held.found.record.clone();
            change(&mut next);
            held.revision += 1;
            next.revision = held.revision;
            held.is_unsettled = true;
            let mode = PutMode::Update(held.found.tag.clone());
            self.bucket.put(&record::path(), next.to_json(), mode)?;
            self.settle(&mut held)?;
            if held.found.record.revision == next.revision {
                return Ok(());
            }
            // An earlier request of this process arrived late and changed the tag.
        }
        Err(refuses_writes(&self.bucket))
    }

    /// Reads which of the records of this process the bucket has.
    fn settle(&self, held: &mut Held) -> Result<(), BucketRunError> {
        let found = RunRecord::read(&self.bucket)?;
        let is_own = |found: &Found| self.claim.wrote(&found.record);
        if let Some(found) = found.as_ref().filter(|found| is_own(found)) {
            held.found = found.clone();
            held.is_unsettled = false;
            return Ok(());
        }
        let lease = found.and_then(|found| found.record.lease);
        Err(BucketRunError::LostLease {
            url: self.bucket.url(&object_store::path::Path::default()),
            holder: lease.map_or_else(|| "which has ended".to_owned(), |lease| lease.holder),
        })
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        // Each field is changed as a whole.
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn refuses_writes(bucket: &Bucket) -> BucketRunError {
    BucketRunError::Damaged {
        url: bucket.url(&record::path()),
        problem: "the bucket refuses to replace it, though nothing else has changed it; does the store support \
                  conditional writes?"
            .to_owned(),
    }
}

/// A name that no other process or folder has.
pub(super) fn random_id() -> String {
    // The standard library's hashers have random keys.
    let random = || RandomState::new().hash_one(std::process::id());
    format!("{:016x}{:016x}", random(), random())
}
