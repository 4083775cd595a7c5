//! Resolves the endpoints every few seconds and keeps a member for each address.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    sync::Arc,
    time::Duration,
};

use tokio::{sync::watch, task::JoinHandle};

use crate::{directory::Directory, member::Member, shared::Shared};

/// Time between two look-ups: a teacher that joins is found within this time.
const LOOKUP_INTERVAL: Duration = Duration::from_secs(2);

/// Keeps a member for each address until the pool is closed.
pub(crate) async fn run(mut directory: Directory, shared: Arc<Shared>) {
    let mut members: BTreeMap<SocketAddr, JoinHandle<()>> = BTreeMap::new();
    let (listed, _) = watch::channel(BTreeSet::new());
    loop {
        let look_up = directory.look_up(&shared.roster);
        let Some(found) = shared.closed.run_until_cancelled(look_up).await else {
            return;
        };
        listed.send_replace(found.iter().map(|(_, address)| *address).collect());
        members.retain(|_, member| !member.is_finished());
        for (teacher, address) in found {
            members.entry(address).or_insert_with(|| {
                let member = Member {
                    teacher,
                    address,
                    listed: listed.subscribe(),
                    shared: Arc::clone(&shared),
                };
                tokio::spawn(traces::carried(member.run()))
            });
        }
        tokio::select! {
            () = shared.closed.cancelled() => return,
            () = tokio::time::sleep(LOOKUP_INTERVAL) => {}
        }
    }
}
