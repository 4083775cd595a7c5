//! Which teacher processes have a stream: a process that several addresses reach has one.

use std::collections::{BTreeMap, btree_map::Entry};

use tokio::sync::watch;

use crate::teacher::TeacherAddress;

/// The teacher processes that have a stream, by the instance id in their `Describe`, with the address of the stream.
#[derive(Debug)]
pub(crate) struct Instances(watch::Sender<BTreeMap<String, TeacherAddress>>);

/// The exclusive right to open a stream to one process, until it is dropped.
#[derive(Debug)]
pub(crate) struct Claim<'i> {
    instances: &'i Instances,
    /// `None` if the process reports no id: every address then counts as a process.
    id: Option<String>,
}

impl Default for Instances {
    fn default() -> Self {
        Self(watch::Sender::new(BTreeMap::new()))
    }
}

impl Instances {
    /// Claims the process `id` for a stream at `address`.
    ///
    /// # Errors
    /// The address that has claimed it already.
    pub fn claim(
        &self,
        id: Option<&str>,
        address: &TeacherAddress,
    ) -> Result<Claim<'_>, TeacherAddress> {
        let mut holder = None;
        if let Some(id) = id {
            self.0
                .send_modify(|claimed| match claimed.entry(id.to_owned()) {
                    Entry::Vacant(free) => _ = free.insert(address.clone()),
                    Entry::Occupied(held) => holder = Some(held.get().clone()),
                });
        }
        match holder {
            Some(holder) => Err(holder),
            None => Ok(Claim {
                instances: self,
                id: id.map(str::to_owned),
            }),
        }
    }

    /// Waits until no address has claimed the process `id`.
    pub async fn until_free(&self, id: &str) {
        let mut claimed = self.0.subscribe();
        // An error would mean that the sender was dropped, but `self` is the sender.
        let _ = claimed.wait_for(|claimed| !claimed.contains_key(id)).await;
    }
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        if let Some(id) = &self.id {
            self.instances
                .0
                .send_modify(|claimed| _ = claimed.remove(id));
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    #[tokio::test]
    async fn one_address_at_a_time_claims_a_process() {
        let instances = Instances::default();
        let [first, second] = ["a:1", "b:1"].map(|endpoint| TeacherAddress::new(endpoint, None));
        let claim = instances.claim(Some("x"), &first).unwrap();
        assert_eq!(instances.claim(Some("x"), &second).unwrap_err(), first);
        assert!(instances.until_free("x").now_or_never().is_none());
        // Another process, and two that report no id.
        let _others = [Some("y"), None, None].map(|id| instances.claim(id, &second).unwrap());
        let until_free = instances.until_free("x");
        drop(claim);
        until_free.await;
        assert!(instances.claim(Some("x"), &second).is_ok());
    }
}
