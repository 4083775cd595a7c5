//! Removes the objects that deletions and interrupted publishes leave behind.
//!
//! An upload without a version may belong to a publish that another process has just begun. So it is removed only
//! after [`UPLOAD_LIFE`], and a publish fails if it takes longer than [`LONGEST_PUBLISH`]: between the two there is
//! room for clocks that disagree. Every upload has a name of its own, so the removal of an old one never takes a
//! new one with the same content along.
//!
//! A signature has no name of its own: a publish that is tried again finds the one that it created before. So it is
//! removed only where a later version exists, or existed: no publish takes such a number any more.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, SystemTime},
};

use common::digest::Sha256;
use object_store::path::Path;
use tracing::warn;

use super::{
    BucketStore, existing,
    names::{self, Signature, Upload},
    newest_number,
};
use crate::model_store::{ModelName, ModelStore, StoreError};

/// Age of an upload or a signature without a version at which it is removed.
const UPLOAD_LIFE: Duration = Duration::from_secs(24 * 3600);

/// Longest time from the beginning of an upload to the commit of its version.
pub(super) const LONGEST_PUBLISH: Duration = Duration::from_secs(12 * 3600);

impl BucketStore {
    /// Removes the garbage of a model. A failure is logged: the next publish tries again.
    pub(super) fn tidy(&self, model: &ModelName) {
        if let Err(error) = self.remove_garbage(model) {
            warn!(%model, "cannot remove what is no longer needed: {error}");
        }
    }

    fn remove_garbage(&self, model: &ModelName) -> Result<(), StoreError> {
        let active = self.read_active(model)?;
        let objects = self.list_model(model)?;
        let versions = existing(objects.versions.clone(), active.as_ref());
        for version in &objects.versions {
            if !versions.contains(version) {
                self.objects.remove(&names::manifest(model, *version))?;
            }
        }
        let now = SystemTime::now();
        let newest = newest_number(&objects.versions, active.as_ref());
        for path in abandoned(&objects.signatures, &versions, newest, now) {
            self.objects.remove(path)?;
        }
        // Every version has an upload. Without more of them, there is no need to read the manifests.
        if objects.uploads.len() <= versions.len()
            || !objects
                .uploads
                .iter()
                .any(|upload| is_old(upload.uploaded, now))
        {
            return Ok(());
        }
        let mut needed = BTreeSet::new();
        for version in versions {
            match self.manifest(model, version) {
                Ok(manifest) => _ = needed.insert(manifest.onnx.sha256),
                // It was deleted meanwhile.
                Err(StoreError::NoSuchVersion { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        for path in superfluous(&objects.uploads, &needed, now) {
            self.objects.remove(path)?;
        }
        Ok(())
    }
}

/// The old uploads that no version needs: of those with a `needed` content, all but the newest.
fn superfluous<'u>(
    uploads: &'u [Upload],
    needed: &BTreeSet<Sha256>,
    now: SystemTime,
) -> Vec<&'u Path> {
    let mut newest: BTreeMap<&Sha256, &Upload> = BTreeMap::new();
    for upload in uploads {
        let found = newest.entry(&upload.sha256).or_insert(upload);
        if upload.uploaded > found.uploaded {
            *found = upload;
        }
    }
    let is_needed = |upload: &Upload| {
        needed.contains(&upload.sha256) && newest[&upload.sha256].path == upload.path
    };
    let old = uploads.iter().filter(|upload| is_old(upload.uploaded, now));
    old.filter(|upload| !is_needed(upload))
        .map(|upload| &upload.path)
        .collect()
}

/// The old signatures of numbers up to `newest` that none of `versions` has.
fn abandoned<'s>(
    signatures: &'s [Signature],
    versions: &[u64],
    newest: u64,
    now: SystemTime,
) -> Vec<&'s Path> {
    let old = signatures
        .iter()
        .filter(|signature| is_old(signature.uploaded, now));
    let abandoned = old
        .filter(|signature| signature.version <= newest && !versions.contains(&signature.version));
    abandoned.map(|signature| &signature.path).collect()
}

fn is_old(uploaded: SystemTime, now: SystemTime) -> bool {
    // An error means that the object is newer than `now`.
    let age = now.duration_since(uploaded).unwrap_or_default();
    age > UPLOAD_LIFE
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_old_uploads_that_no_version_needs_are_superfluous() {
        let now = SystemTime::UNIX_EPOCH + 10 * UPLOAD_LIFE;
        let upload = |content: &str, name: &str, hours: u64| Upload {
            path: name.into(),
            sha256: Sha256::of(content.as_bytes()),
            size: 1,
            uploaded: now - Duration::from_secs(hours * 3600),
        };
        let needed = BTreeSet::from([Sha256::of(b"served")]);
        let uploads = [
            upload("served", "kept: the newest of its content", 40),
            upload("served", "gone: another has its content", 50),
            upload("lost", "gone: no version", 25),
            upload("lost", "kept: a publish may be going on", 23),
            upload("new", "kept: it too", 0),
        ];
        let found = superfluous(&uploads, &needed, now);
        let expected = ["gone: another has its content", "gone: no version"].map(Path::from);
        assert_eq!(found, expected.each_ref());

        let of_the_future = [upload("lost", "kept: clocks disagree", 0)];
        let earlier = now - Duration::from_secs(3600);
        assert!(superfluous(&of_the_future, &needed, earlier).is_empty());
    }

    #[test]
    fn only_old_signatures_of_numbers_that_no_publish_takes_are_abandoned() {
        let now = SystemTime::UNIX_EPOCH + 10 * UPLOAD_LIFE;
        let signature = |version: u64, name: &str, hours: u64| Signature {
            path: name.into(),
            version,
            uploaded: now - Duration::from_secs(hours * 3600),
        };
        let signatures = [
            signature(1, "kept: its version exists", 100),
            signature(2, "gone: its version was deleted", 100),
            signature(2, "kept: a publish may be going on", 23),
            signature(4, "gone: the last version, which was deleted", 25),
            signature(5, "kept: a publish may take the number", 25),
        ];
        let found = abandoned(&signatures, &[1, 3], 4, now);
        let gone = [&signatures[1].path, &signatures[3].path];
        assert_eq!(found, gone);
    }
}
