//! Endpoints of the configuration, looked up again and again.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    sync::Arc,
    time::Duration,
};

use common::grpc;
use tokio::{net::lookup_host, sync::watch, task::JoinHandle, time::timeout};

use super::{
    PoolError, Shared, member,
    roster::{Place, Roster, Standing},
};

/// How often names are looked up: a teacher that joins is found within this time.
const LOOKUP_INTERVAL: Duration = Duration::from_secs(3);
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(3);

/// The endpoints, with the addresses last known for each.
pub(super) struct Directory(Vec<Endpoint>);

struct Endpoint {
    /// As in the configuration.
    text: String,
    /// host:port
    host_port: String,
    addresses: Vec<SocketAddr>,
}

impl Directory {
    /// Reads the configured endpoints; looks nothing up yet.
    ///
    /// # Errors
    /// The endpoint that is none.
    pub fn new(endpoints: &[String]) -> Result<Self, PoolError> {
        let read = |text: &String| {
            let endpoint =
                grpc::endpoint(text).map_err(|error| PoolError::Endpoint(error.to_string()))?;
            let authority = endpoint.uri().authority();
            Ok(Endpoint {
                text: text.clone(),
                host_port: authority.map(ToString::to_string).unwrap_or_default(),
                addresses: Vec::new(),
            })
        };
        endpoints
            .iter()
            .map(read)
            .collect::<Result<_, _>>()
            .map(Self)
    }

    /// Looks every endpoint up. A name that cannot be looked up keeps the addresses last known, so
    /// that a DNS failure takes no teacher away. Each address comes once, in the configured order.
    pub async fn look_up(&mut self, roster: &Roster) -> Vec<(Place, SocketAddr)> {
        let mut seen = BTreeSet::new();
        let mut found = Vec::new();
        for endpoint in &mut self.0 {
            let nowhere = Place::new(&endpoint.text, None);
            match look_up(&endpoint.host_port).await {
                Ok(addresses) => {
                    roster.remove(&nowhere);
                    endpoint.addresses = addresses;
                }
                Err(reason) => roster.set(&nowhere, Standing::Away(reason)),
            }
            for address in &endpoint.addresses {
                if seen.insert(*address) {
                    found.push((Place::new(&endpoint.text, Some(*address)), *address));
                }
            }
        }
        found
    }
}

async fn look_up(host_port: &str) -> Result<Vec<SocketAddr>, String> {
    let found = timeout(LOOKUP_TIMEOUT, lookup_host(host_port)).await;
    match found {
        Ok(Ok(addresses)) => {
            let addresses: BTreeSet<_> = addresses.collect();
            match addresses.is_empty() {
                true => Err("the name has no address".to_owned()),
                false => Ok(addresses.into_iter().collect()),
            }
        }
        Ok(Err(error)) => Err(format!("the name cannot be looked up: {error}")),
        Err(_) => Err(format!("the name was not found within {LOOKUP_TIMEOUT:?}")),
    }
}

/// Keeps a member for each address, until the pool is closed.
pub(super) async fn run(mut directory: Directory, shared: Arc<Shared>) {
    let mut members: BTreeMap<SocketAddr, JoinHandle<()>> = BTreeMap::new();
    let (wanted, _) = watch::channel(BTreeSet::new());
    loop {
        let found = directory.look_up(&shared.roster).await;
        wanted.send_replace(found.iter().map(|(_, address)| *address).collect());
        members.retain(|_, member| !member.is_finished());
        for (place, address) in found {
            members.entry(address).or_insert_with(|| {
                let member = member::Member {
                    place,
                    address,
                    wanted: wanted.subscribe(),
                    shared: Arc::clone(&shared),
                };
                tokio::spawn(member.run())
            });
        }
        tokio::select! {
            () = shared.closed.cancelled() => return,
            () = tokio::time::sleep(LOOKUP_INTERVAL) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::events::EventSink;

    #[tokio::test]
    async fn each_address_comes_once_and_in_order() {
        let endpoints = [
            "127.0.0.1:2",
            "http://127.0.0.1:1",
            "[::1]:3",
            "127.0.0.1:2",
        ];
        let mut directory = Directory::new(&endpoints.map(String::from)).unwrap();
        let roster = Roster::new(EventSink::new(|_| {}).notices());
        let found = directory.look_up(&roster).await;
        let addresses: Vec<_> = found
            .iter()
            .map(|(_, address)| address.to_string())
            .collect();
        assert_eq!(addresses, ["127.0.0.1:2", "127.0.0.1:1", "[::1]:3"]);
    }

    #[tokio::test]
    async fn a_name_without_address_is_named() {
        let mut directory = Directory::new(&["no.such.host.invalid:1".into()]).unwrap();
        let roster = Roster::new(EventSink::new(|_| {}).notices());
        assert!(directory.look_up(&roster).await.is_empty());
        assert!(roster.describe().contains("no.such.host.invalid:1"));
    }
}
