//! Endpoints of the configuration, looked up again and again.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
};

use futures::future::join_all;
use server::grpc;

use crate::{
    config::PoolConfig,
    error::PoolError,
    place::{Place, Standing},
    resolver::Resolver,
    roster::Roster,
};

/// An address is given up when it is missing from so many answers in a row: a server may answer with
/// a part of what it knows.
const MISSING: u32 = 2;

/// The endpoints, with the addresses last known for each.
pub(crate) struct Directory {
    endpoints: Vec<Endpoint>,
    resolver: Resolver,
}

struct Endpoint {
    /// As in the configuration.
    text: String,
    host: String,
    port: u16,
    /// With the number of answers in a row from which each was missing.
    addresses: BTreeMap<SocketAddr, u32>,
}

impl Directory {
    /// Reads the configured endpoints; looks nothing up yet.
    ///
    /// # Errors
    /// The endpoint that is none.
    pub fn new(config: &PoolConfig) -> Result<Self, PoolError> {
        let endpoints = config.endpoints.iter().map(|text| Endpoint::new(text));
        Ok(Self {
            endpoints: endpoints.collect::<Result<_, _>>()?,
            resolver: config
                .name_server
                .map_or(Resolver::System, Resolver::NameServer),
        })
    }

    /// Looks every endpoint up. A name that cannot be looked up keeps the addresses last known, so
    /// that a DNS failure takes no teacher away. Each address comes once, in the configured order.
    pub async fn look_up(&mut self, roster: &Roster) -> Vec<(Place, SocketAddr)> {
        let resolver = self.resolver;
        let ask = |endpoint: &Endpoint| {
            let (host, port) = (endpoint.host.clone(), endpoint.port);
            async move { resolver.addresses(&host, port).await }
        };
        let answers = join_all(self.endpoints.iter().map(ask)).await;
        let mut seen = BTreeSet::new();
        let mut found = Vec::new();
        for (endpoint, answer) in self.endpoints.iter_mut().zip(answers) {
            let nowhere = Place::new(&endpoint.text, None);
            match answer {
                Ok(addresses) => {
                    roster.remove(&nowhere);
                    endpoint.learn(&addresses);
                }
                Err(reason) => roster.set(&nowhere, Standing::Away(reason)),
            }
            for address in endpoint.addresses.keys() {
                if seen.insert(*address) {
                    found.push((Place::new(&endpoint.text, Some(*address)), *address));
                }
            }
        }
        found
    }
}

impl Endpoint {
    fn new(text: &str) -> Result<Self, PoolError> {
        let endpoint =
            grpc::endpoint(text).map_err(|error| PoolError::Endpoint(error.to_string()))?;
        let uri = endpoint.uri();
        // An IPv6 address stands in brackets. Both are there: `endpoint` has checked that.
        let host = uri.host().unwrap_or_default().trim_matches(['[', ']']);
        Ok(Self {
            text: text.to_owned(),
            host: host.to_owned(),
            port: uri.port_u16().unwrap_or_default(),
            addresses: BTreeMap::new(),
        })
    }

    fn learn(&mut self, answer: &BTreeSet<SocketAddr>) {
        self.addresses.retain(|address, missing| {
            *missing = match answer.contains(address) {
                true => 0,
                false => *missing + 1,
            };
            *missing < MISSING
        });
        for address in answer {
            self.addresses.entry(*address).or_default();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::observer::tests::Notices;

    fn directory(endpoints: &[&str]) -> Directory {
        let endpoints = endpoints.iter().map(|text| Endpoint::new(text).unwrap());
        Directory {
            endpoints: endpoints.collect(),
            resolver: Resolver::System,
        }
    }

    #[tokio::test]
    async fn each_address_comes_once_and_in_order() {
        let endpoints = [
            "127.0.0.1:2",
            "http://127.0.0.1:1",
            "[::1]:3",
            "127.0.0.1:2",
        ];
        let roster = Roster::new(Arc::new(Notices::default()), 8);
        let found = directory(&endpoints).look_up(&roster).await;
        let addresses: Vec<_> = found
            .iter()
            .map(|(_, address)| address.to_string())
            .collect();
        assert_eq!(addresses, ["127.0.0.1:2", "127.0.0.1:1", "[::1]:3"]);
    }

    #[tokio::test]
    async fn a_name_without_address_is_named() {
        let mut directory = directory(&["no.such.host.invalid:1"]);
        let roster = Roster::new(Arc::new(Notices::default()), 8);
        assert!(directory.look_up(&roster).await.is_empty());
        assert!(roster.describe().contains("no.such.host.invalid:1"));
    }

    #[test]
    fn an_address_leaves_when_it_is_missing_for_long() {
        let mut endpoint = Endpoint::new("teacher:1").unwrap();
        let [a, b]: [SocketAddr; 2] =
            ["10.0.0.1:1", "10.0.0.2:1"].map(|text| text.parse().unwrap());
        let mut known_after = |answer: &[SocketAddr]| {
            endpoint.learn(&answer.iter().copied().collect());
            endpoint.addresses.keys().copied().collect::<Vec<_>>()
        };
        assert_eq!(known_after(&[a, b]), [a, b]);
        assert_eq!(known_after(&[a]), [a, b], "once is no time");
        assert_eq!(known_after(&[a, b]), [a, b], "it is back");
        assert_eq!(known_after(&[a]), [a, b]);
        assert_eq!(known_after(&[a]), [a]);
        assert_eq!(known_after(&[b]), [a, b], "a new one is used at once");
    }
}
