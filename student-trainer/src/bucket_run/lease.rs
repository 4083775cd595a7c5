//! The right of one process to write a run in a bucket.

use std::{
    collections::BTreeMap,
    fs,
    hash::{BuildHasher, RandomState},
    io,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        mpsc::{self, RecvTimeoutError},
    },
    thread,
    time::{Duration, Instant},
};

use object_storage::Bucket;
use object_store::{PutMode, UpdateVersion};

use super::{
    error::BucketRunError,
    persistence::{Persistence, report},
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
    /// The name of the process's scratch folder, if that has a state of the run.
    own: Option<String>,
    /// Its name if something else has written the record since.
    fresh: String,
    terms: LeaseTerms,
}

#[derive(Debug)]
struct Held {
    found: Found,
    /// The number of the newest record that was sent.
    revision: u64,
    /// Whether a record was sent and its reply is missing: the bucket may have it.
    is_unsettled: bool,
}

/// The record of another process that has a lease, as it was first seen.
struct Watched {
    tag: UpdateVersion,
    since: Instant,
}

impl Claim {
    /// A claim of this process to a lease of so many seconds. Its scratch folder is called `own` if it has a state of the
    /// run.
    pub(super) fn new(own: Option<String>, seconds: u64) -> Self {
        let host = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        Self {
            own,
            fresh: random_id(),
            terms: LeaseTerms {
                process: random_id(),
                holder: format!("process {} on {}", std::process::id(), host.trim()),
                seconds,
            },
        }
    }

    /// Whether `writer` is the scratch folder of this process.
    fn is_own(&self, writer: &str) -> bool {
        self.own.as_deref() == Some(writer) || self.fresh == writer
    }

    /// The writer of the record in place of `found`: the name of the scratch folder only if its state is the newest.
    fn writer(&self, found: Option<&Found>) -> &str {
        let own = self.own.as_deref();
        let own = own.filter(|own| found.is_some_and(|found| found.record.writer == *own));
        own.unwrap_or(&self.fresh)
    }

    /// Sends a record with this claim in place of `found`; returns the record of the bucket if it has the claim now.
    fn send(
        &self,
        bucket: &Bucket,
        found: Option<&Found>,
    ) -> Result<Option<Found>, BucketRunError> {
        let mut next = found.map_or_else(RunRecord::new, |found| found.record.clone());
        next.revision += 1;
        next.writer = self.writer(found).to_owned();
        next.lease = Some(self.terms.clone());
        let mode = match found {
            Some(found) => PutMode::Update(found.tag.clone()),
            None => PutMode::Create,
        };
        // Whatever the answer is, the bucket may have the record: the reply to a repeated request may have been lost.
        bucket.put(&record::path(), next.to_json(), mode)?;
        let now = RunRecord::read(bucket)?;
        Ok(now.filter(|now| now.record.lease.as_ref() == Some(&self.terms)))
    }

    /// Whether this process, which had the lease, wrote `record`: it may have released the lease with it.
    fn wrote(&self, record: &RunRecord) -> bool {
        let lease = record.lease.as_ref();
        self.is_own(&record.writer) && lease.is_none_or(|lease| *lease == self.terms)
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
                && let Some(lease) = &found.record.lease
                && !claim.is_own(&found.record.writer)
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

    /// The same lease, whose requests go through `bucket`.
    pub(super) fn through(self, bucket: &Arc<Bucket>) -> Self {
        Self {
            bucket: Arc::clone(bucket),
            ..self
        }
    }

    /// The record that this process wrote last, as far as it knows.
    pub(super) fn record(&self) -> RunRecord {
        self.held().found.record.clone()
    }

    /// Whether the scratch folder has the state of the bucket or a newer one: nothing else wrote the record that this lease
    /// replaced.
    pub(super) fn continues(&self) -> bool {
        self.claim.own.as_ref() == Some(&self.held().found.record.writer)
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

    /// Does `work` while a thread renews the lease. If it is lost meanwhile, the next write of the record fails.
    ///
    /// # Errors
    /// If the operating system refuses a thread.
    pub(super) fn renew_during<T>(&self, work: impl FnOnce() -> T) -> io::Result<T> {
        let interval = self.duration() / 4;
        let (done, is_done) = mpsc::channel::<()>();
        let renew = move || {
            while is_done.recv_timeout(interval) == Err(RecvTimeoutError::Timeout) {
                match self.renew() {
                    Ok(()) => {}
                    Err(BucketRunError::LostLease { .. }) => return,
                    Err(BucketRunError::Bucket(error)) if error.is_stopped() => return,
                    Err(error) => report(&error),
                }
            }
        };
        thread::scope(|scope| {
            let thread = thread::Builder::new().name("run-lease".to_owned());
            thread.spawn_scoped(scope, renew)?;
            let result = work();
            drop(done);
            Ok(result)
        })
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

#[cfg(test)]
mod tests {
    use object_store::memory::InMemory;
    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::events::EventSink;

    fn take(bucket: &Arc<Bucket>, own: Option<&str>) -> Lease {
        let stop = CancellationToken::new();
        let persistence = Persistence {
            url: "s3://b/run",
            patience: Duration::ZERO,
            stop: &stop,
        };
        let claim = Claim::new(own.map(str::to_owned), 0);
        Lease::take(bucket, claim, persistence, &EventSink::none().notices()).unwrap()
    }

    #[test]
    fn a_scratch_folder_keeps_its_name_only_if_nothing_else_wrote_the_record_since() {
        let store = Arc::new(InMemory::new());
        let bucket = Bucket::over(store, "s3://b/run".to_owned(), Duration::from_secs(60));
        let bucket = Arc::new(bucket.unwrap());
        let first = take(&bucket, None);
        let name = first.record().writer;
        assert!(!first.continues());
        let again = take(&bucket, Some(&name));
        assert!(again.continues());
        assert_eq!(again.record().writer, name);
        again.release().unwrap();

        let other = take(&bucket, Some("older"));
        assert!(!other.continues());
        let writer = other.record().writer;
        assert!(writer != "older" && writer != name, "{writer}");
        other.release().unwrap();
        let late = take(&bucket, Some(&name));
        assert!(!late.continues());
        assert_ne!(late.record().writer, name);
        late.renew().unwrap();
        assert!(late.record().lease.is_some());
    }
}
