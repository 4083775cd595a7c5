//! The configured endpoints and the addresses to which they resolve.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
};

use futures::future::join_all;
use server::grpc;

use crate::{
    config::PoolConfig,
    error::PoolError,
    resolver::Resolver,
    roster::Roster,
    teacher::{TeacherAddress, TeacherStatus},
};

/// An address is dropped once it is missing from this many answers in a row: a DNS server may answer with a part of
/// the addresses that it knows.
const MAX_MISSES: u32 = 2;

/// The configured endpoints, each with its last known addresses.
pub(crate) struct Directory {
    endpoints: Vec<Endpoint>,
    resolver: Resolver,
}

struct Endpoint {
    /// As in the configuration.
    text: String,
    host: String,
    port: u16,
    /// Each with the number of latest answers in a row from which it was missing.
    addresses: BTreeMap<SocketAddr, u32>,
}

impl Directory {
    /// Reads the configured endpoints without resolving them.
    ///
    /// # Errors
    /// [`PoolError::Endpoint`] names the first endpoint that is invalid.
    pub fn new(config: &PoolConfig) -> Result<Self, PoolError> {
        let endpoints = config.endpoints.iter().map(|text| Endpoint::new(text));
        Ok(Self {
            endpoints: endpoints.collect::<Result<_, _>>()?,
            resolver: config
                .name_server
                .map_or(Resolver::System, Resolver::NameServer),
        })
    }

    /// Resolves every endpoint and reports failures to `roster`. An endpoint whose look-up fails keeps its last known
    /// addresses, so a DNS failure disconnects no teacher. Returns each address once, in the configured order.
    pub async fn look_up(&mut self, roster: &Roster) -> Vec<(TeacherAddress, SocketAddr)> {
        let resolver = self.resolver;
        let ask = |endpoint: &Endpoint| {
            let (host, port) = (endpoint.host.clone(), endpoint.port);
            async move { resolver.addresses(&host, port).await }
        };
        let answers = join_all(self.endpoints.iter().map(ask)).await;
        let mut seen = BTreeSet::new();
        let mut found = Vec::new();
        for (endpoint, answer) in self.endpoints.iter_mut().zip(answers) {
            let unresolved = TeacherAddress::new(&endpoint.text, None);
            match answer {
                Ok(addresses) => {
                    roster.remove(&unresolved);
                    endpoint.update(&addresses);
                }
                Err(reason) => roster.set(&unresolved, TeacherStatus::Unavailable(reason)),
            }
            for address in endpoint.addresses.keys() {
                if seen.insert(*address) {
                    let teacher = TeacherAddress::new(&endpoint.text, Some(*address));
                    found.push((teacher, *address));
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
        // `grpc::endpoint` has checked that host and port are present. An IPv6 address is in brackets.
        let host = uri.host().unwrap_or_default().trim_matches(['[', ']']);
        Ok(Self {
            text: text.to_owned(),
            host: host.to_owned(),
            port: uri.port_u16().unwrap_or_default(),
            addresses: BTreeMap::new(),
        })
    }

    fn update(&mut self, answer: &BTreeSet<SocketAddr>) {
        self.addresses.retain(|address, misses| {
            *misses = if answer.contains(address) {
                0
            } else {
                *misses + 1
            };
            *misses < MAX_MISSES
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
    use crate::observer::tests::Recorder;

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
        let roster = Roster::new(Arc::new(Recorder::default()), 8);
        let found = directory(&endpoints).look_up(&roster).await;
        let addresses: Vec<_> = found
            .iter()
            .map(|(_, address)| address.to_string())
            .collect();
        assert_eq!(addresses, ["127.0.0.1:2", "127.0.0.1:1", "[::1]:3"]);
    }

    #[tokio::test]
    async fn a_name_without_address_is_reported() {
        let mut directory = directory(&["no.such.host.invalid:1"]);
        let roster = Roster::new(Arc::new(Recorder::default()), 8);
        assert!(directory.look_up(&roster).await.is_empty());
        assert!(roster.describe().contains("no.such.host.invalid:1"));
    }

    #[test]
    fn an_address_is_dropped_after_two_misses_in_a_row() {
        let mut endpoint = Endpoint::new("teacher:1").unwrap();
        let [a, b]: [SocketAddr; 2] =
            ["10.0.0.1:1", "10.0.0.2:1"].map(|text| text.parse().unwrap());
        let mut known_after = |answer: &[SocketAddr]| {
            endpoint.update(&answer.iter().copied().collect());
            endpoint.addresses.keys().copied().collect::<Vec<_>>()
        };
        assert_eq!(known_after(&[a, b]), [a, b]);
        assert_eq!(known_after(&[a]), [a, b], "one miss");
        assert_eq!(known_after(&[a, b]), [a, b], "listed again");
        assert_eq!(known_after(&[a]), [a, b]);
        assert_eq!(known_after(&[a]), [a]);
        assert_eq!(known_after(&[b]), [a, b], "a new address is used at once");
    }
}
