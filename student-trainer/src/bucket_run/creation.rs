//! Creates runs that begin later, each with a name of its own.

use std::{collections::BTreeSet, time::Duration};

use object_storage::{Bucket, BucketLocation};
use object_store::{PutMode, path::Path};

use super::{
    error::BucketRunError,
    lease::random_id,
    record::{self, RunRecord},
};

/// How long the client repeats one request: its caller waits for the answer.
const REQUEST_PATIENCE: Duration = Duration::from_secs(3);

/// Creates a run without files below `location`, under the first of `names` that has no object, and returns that name.
/// No other process gets the same name.
///
/// Must not be called on a thread of an async runtime.
///
/// # Errors
/// Those of the bucket, which may have the run.
pub fn create(
    location: &BucketLocation,
    names: impl Iterator<Item = String>,
) -> Result<String, BucketRunError> {
    create_in(&Bucket::open(location, REQUEST_PATIENCE)?, names)
}

/// [`create`] in `bucket`.
fn create_in(
    bucket: &Bucket,
    names: impl Iterator<Item = String>,
) -> Result<String, BucketRunError> {
    let folders = bucket.folders(&Path::default())?;
    let taken: BTreeSet<&str> = folders.iter().filter_map(Path::filename).collect();
    let mut record = RunRecord::new();
    // Shows whose record it is.
    record.writer = random_id();
    let json = record.to_json();
    for name in names {
        if taken.contains(name.as_str()) {
            continue;
        }
        let path = Path::from(format!("{name}/{}", record::path()));
        // The reply to a request that the client repeated may have been lost.
        if bucket.put(&path, json.clone(), PutMode::Create)?
            || bucket.read(&path)?.is_some_and(|found| found.bytes == json)
        {
            return Ok(name);
        }
    }
    let none = "no name is free".to_owned();
    Err(bucket.error(&Path::default(), none).into())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use object_store::{ObjectStore, memory::InMemory};
    use test_support::FaultyStore;

    use super::*;

    fn bucket(store: Arc<dyn ObjectStore>) -> Bucket {
        let patience = Duration::from_secs(60);
        Bucket::over(store, "s3://b/runs".to_owned(), patience).unwrap()
    }

    fn names() -> impl Iterator<Item = String> {
        ["a", "a-2", "a-3"].into_iter().map(str::to_owned)
    }

    #[test]
    fn a_name_is_free_if_nothing_is_below_it() {
        let bucket = bucket(Arc::new(InMemory::new()));
        bucket.upload(&"a/notes.txt".into(), b"no run").unwrap();
        bucket.upload(&"a-22/notes.txt".into(), b"no run").unwrap();
        assert_eq!(create_in(&bucket, names()).unwrap(), "a-2");
        assert_eq!(create_in(&bucket, names()).unwrap(), "a-3");
        let error = create_in(&bucket, names()).unwrap_err().to_string();
        assert!(error.contains("no name is free"), "{error}");
        assert!(bucket.read(&"a/run.json".into()).unwrap().is_none());
    }

    #[test]
    fn a_process_that_dies_or_whose_reply_is_lost_leaves_its_name_taken_at_most() {
        for loses_reply in [false, true] {
            for requests in 0.. {
                let objects = Arc::new(InMemory::new());
                let dying = bucket(FaultyStore::killed_after(requests, loses_reply, &objects));
                let created = create_in(&dying, names());
                let next = create_in(&bucket(objects), names()).unwrap();
                match created {
                    Ok(name) => {
                        assert_eq!((&*name, &*next), ("a", "a-2"));
                        assert!(requests >= 2, "{requests}");
                        break;
                    }
                    Err(_) => assert!(next == "a" || next == "a-2", "{next}"),
                }
            }
        }
    }
}
