//! Which process answers at which address: a teacher that is reached by several addresses is one teacher.

use std::collections::{BTreeMap, btree_map::Entry};

use tokio::sync::watch;

use crate::place::Place;

/// The processes that have a stream, by the id that each tells in Describe, with the place of the stream.
#[derive(Debug)]
pub(crate) struct Instances(watch::Sender<BTreeMap<String, Place>>);

/// The right to stream to one process, until it is dropped.
#[derive(Debug)]
pub(crate) struct Claim<'i> {
    instances: &'i Instances,
    /// Absent where the process tells none: it counts by its address.
    id: Option<String>,
}

impl Default for Instances {
    fn default() -> Self {
        Self(watch::Sender::new(BTreeMap::new()))
    }
}

impl Instances {
    /// Takes the process `id` for `place`.
    ///
    /// # Errors
    /// The place that has it.
    pub fn claim(&self, id: Option<&str>, place: &Place) -> Result<Claim<'_>, Place> {
        let mut holder = None;
        if let Some(id) = id {
            self.0
                .send_modify(|taken| match taken.entry(id.to_owned()) {
                    Entry::Vacant(free) => _ = free.insert(place.clone()),
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

    /// Waits until no place has the process `id`.
    pub async fn until_free(&self, id: &str) {
        let mut taken = self.0.subscribe();
        // An error would mean that the sender is gone, which is `self`.
        let _ = taken.wait_for(|taken| !taken.contains_key(id)).await;
    }
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        if let Some(id) = &self.id {
            self.instances.0.send_modify(|taken| _ = taken.remove(id));
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    #[tokio::test]
    async fn one_place_at_a_time_has_a_process() {
        let instances = Instances::default();
        let [first, second] = ["a:1", "b:1"].map(|endpoint| Place::new(endpoint, None));
        let claim = instances.claim(Some("x"), &first).unwrap();
        assert_eq!(instances.claim(Some("x"), &second).unwrap_err(), first);
        assert!(instances.until_free("x").now_or_never().is_none());
        // Another process, and two that tell no id.
        let _others = [Some("y"), None, None].map(|id| instances.claim(id, &second).unwrap());
        let waits = instances.until_free("x");
        drop(claim);
        waits.await;
        assert!(instances.claim(Some("x"), &second).is_ok());
    }
}
