//! From a name to its addresses, asked anew each time: nothing is remembered, and no TTL is trusted.

use std::{
    collections::BTreeSet,
    io,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use simple_dns::rdata::RData;
use simple_dns::{CLASS, Name, Packet, PacketFlag, QCLASS, QTYPE, Question, RCODE, TYPE};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpStream, lookup_host},
    time::timeout,
};

/// Longest time for one look-up.
const TIMEOUT: Duration = Duration::from_secs(3);

/// Who is asked for the addresses of a name.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Resolver {
    /// The C library's `getaddrinfo`, which caches nothing itself. A daemon that it asks may.
    System,
    /// This DNS server, directly.
    NameServer(SocketAddr),
}

impl Resolver {
    /// Every address of `host`, which may be a name or an address, with `port`.
    ///
    /// # Errors
    /// Why there is none, for people.
    pub async fn addresses(self, host: &str, port: u16) -> Result<BTreeSet<SocketAddr>, String> {
        if let Ok(address) = host.parse::<IpAddr>() {
            return Ok([SocketAddr::new(address, port)].into());
        }
        let ask = async {
            match self {
                Resolver::System => Ok(lookup_host((host, port)).await?.collect()),
                Resolver::NameServer(server) => {
                    let found = ask(server, host).await?;
                    let address = |ip| SocketAddr::new(ip, port);
                    Ok(found.into_iter().map(address).collect())
                }
            }
        };
        let found: Result<BTreeSet<_>, io::Error> = timeout(TIMEOUT, ask)
            .await
            .unwrap_or_else(|_| Err(io::Error::other(format!("no answer within {TIMEOUT:?}"))));
        match found {
            Ok(addresses) if addresses.is_empty() => Err("the name has no address".to_owned()),
            Ok(addresses) => Ok(addresses),
            Err(error) => Err(format!("the name cannot be looked up: {error}")),
        }
    }
}

/// The A and AAAA records of `host`. Over TCP, as every server has to offer it (RFC 7766): an answer
/// of many teachers is not cut short.
async fn ask(server: SocketAddr, host: &str) -> io::Result<BTreeSet<IpAddr>> {
    let mut stream = TcpStream::connect(server).await?;
    let types = [TYPE::A, TYPE::AAAA];
    for (id, kind) in (0..).zip(types) {
        let query = query(id, host, kind).map_err(io::Error::other)?;
        // Holds: a name has at most 255 bytes.
        stream.write_u16(query.len() as u16).await?;
        stream.write_all(&query).await?;
    }
    let mut found = BTreeSet::new();
    let mut refused = None;
    for _ in types {
        let length = stream.read_u16().await?;
        let mut answer = vec![0; usize::from(length)];
        stream.read_exact(&mut answer).await?;
        let answer = Packet::parse(&answer).map_err(io::Error::other)?;
        match answer.rcode() {
            RCODE::NoError => found.extend(addresses(&answer)),
            code => refused = Some(code),
        }
    }
    match refused {
        // A server may know one kind of record only.
        Some(code) if found.is_empty() => Err(io::Error::other(format!("{server} says {code:?}"))),
        _ => Ok(found),
    }
}

fn query(id: u16, host: &str, kind: TYPE) -> simple_dns::Result<Vec<u8>> {
    let mut packet = Packet::new_query(id);
    packet.set_flags(PacketFlag::RECURSION_DESIRED);
    let class = QCLASS::CLASS(CLASS::IN);
    let question = Question::new(Name::new(host)?, QTYPE::TYPE(kind), class, false);
    packet.questions.push(question);
    packet.build_bytes_vec()
}

/// Aliases were followed by the server: their targets' records are in the answer too.
fn addresses(answer: &Packet<'_>) -> impl Iterator<Item = IpAddr> {
    answer
        .answers
        .iter()
        .filter_map(|record| match &record.rdata {
            RData::A(record) => Some(IpAddr::V4(record.address.into())),
            RData::AAAA(record) => Some(IpAddr::V6(record.address.into())),
            _ => None,
        })
}

#[cfg(test)]
mod properties;

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_address_is_its_own_and_a_name_needs_a_server() {
        let nobody = Resolver::NameServer("127.0.0.1:1".parse().unwrap());
        for (host, address) in [("127.0.0.9", "127.0.0.9:7"), ("::1", "[::1]:7")] {
            let found = nobody.addresses(host, 7).await.unwrap();
            assert_eq!(found, [address.parse().unwrap()].into());
        }
        assert!(nobody.addresses("teacher", 7).await.is_err());
        let found = Resolver::System.addresses("localhost", 7).await.unwrap();
        assert!(found.iter().all(|address| address.ip().is_loopback()));
    }
}
