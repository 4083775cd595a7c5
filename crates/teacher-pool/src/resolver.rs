//! Resolves host names without a cache: each look-up asks anew, whatever the TTL of the last answer.

use std::{
    collections::BTreeSet,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use hickory_resolver::{
    TokioResolver,
    config::{ConnectionConfig, NameServerConfig, ResolveHosts, ResolverConfig},
    net::{NetError, runtime::TokioRuntimeProvider},
    proto::rr::Name,
};
use tokio::{net::lookup_host, time::timeout};

/// Time limit of one look-up.
const TIMEOUT: Duration = Duration::from_secs(3);

/// Who resolves host names.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Resolver {
    /// The system, by `getaddrinfo`: it reads `/etc/hosts` and caches nothing itself, but a daemon that it asks may.
    System,
    /// This DNS server, asked directly.
    NameServer(SocketAddr),
}

impl Resolver {
    /// Returns every address of `host`, which may be a name or an address, with `port`.
    ///
    /// # Errors
    /// Why `host` has no address, in words for the user.
    pub async fn addresses(self, host: &str, port: u16) -> Result<BTreeSet<SocketAddr>, String> {
        if let Ok(address) = host.parse::<IpAddr>() {
            return Ok([SocketAddr::new(address, port)].into());
        }
        let look_up = async {
            match self {
                Self::System => match lookup_host((host, port)).await {
                    Ok(addresses) => Ok(addresses.collect()),
                    Err(error) => Err(error.to_string()),
                },
                Self::NameServer(server) => match ask(server, host).await {
                    Ok(addresses) => Ok(addresses.map(|ip| SocketAddr::new(ip, port)).collect()),
                    Err(error) if error.is_no_records_found() => Ok(BTreeSet::new()),
                    Err(error) => Err(format!("name server {server}: {error}")),
                },
            }
        };
        let addresses = timeout(TIMEOUT, look_up)
            .await
            .unwrap_or_else(|_| Err(format!("no answer within {TIMEOUT:?}")))
            .map_err(|reason| format!("the name cannot be looked up: {reason}"))?;
        if addresses.is_empty() {
            return Err("the name has no address".to_owned());
        }
        Ok(addresses)
    }
}

/// Asks `server` for the A and AAAA records of `host`. It asks over TCP, which every server supports (RFC 7766) and
/// which does not truncate an answer with many addresses.
async fn ask(server: SocketAddr, host: &str) -> Result<impl Iterator<Item = IpAddr>, NetError> {
    let mut connection = ConnectionConfig::tcp();
    connection.port = server.port();
    let server = NameServerConfig::new(server.ip(), true, vec![connection]);
    let config = ResolverConfig::from_parts(None, Vec::new(), vec![server]);
    // Each look-up has a resolver of its own, so no answer and no connection outlives it.
    let mut builder = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
    let options = builder.options_mut();
    options.cache_size = 0;
    options.use_hosts_file = ResolveHosts::Never;
    // Names of containers may have an underscore, which IDNA forbids.
    let mut name = Name::from_str_relaxed(host)?;
    name.set_fqdn(true);
    let found = builder.build()?.lookup_ip(name).await?;
    Ok(found.into_iter())
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use test_support::NameServer;

    use super::*;

    #[tokio::test]
    async fn an_address_needs_no_server_and_a_name_needs_one() {
        let no_server = Resolver::NameServer("127.0.0.1:1".parse().unwrap());
        for (host, address) in [("127.0.0.9", "127.0.0.9:7"), ("::1", "[::1]:7")] {
            let found = no_server.addresses(host, 7).await.unwrap();
            assert_eq!(found, [address.parse().unwrap()].into());
        }
        let error = no_server.addresses("teacher", 7).await.unwrap_err();
        assert!(error.contains("name server 127.0.0.1:1: "), "{error}");
        let found = Resolver::System.addresses("localhost", 7).await.unwrap();
        assert!(found.iter().all(|address| address.ip().is_loopback()));
    }

    #[tokio::test]
    async fn each_look_up_asks_the_name_server_anew() {
        let [first, second] = [[10, 0, 0, 1], [10, 0, 0, 2]].map(Ipv4Addr::from);
        let server = NameServer::start(&[first, second]);
        let resolver = Resolver::NameServer(server.address);
        for addresses in [&[first, second][..], &[second], &[first]] {
            server.set(addresses);
            for host in ["teacher", "project_teacher_1", "teacher.example"] {
                let found = resolver.addresses(host, 7).await.unwrap();
                let expected = addresses.iter().map(|ip| SocketAddr::from((*ip, 7)));
                assert_eq!(found, expected.collect(), "{host}");
            }
        }
        server.set(&[]);
        let error = resolver.addresses("teacher", 7).await.unwrap_err();
        assert_eq!(error, "the name has no address");
    }
}
