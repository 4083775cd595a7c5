//! A DNS server whose answers a test changes. Their TTL is ten minutes.

use std::{
    io::{self, Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    sync::{Arc, Mutex},
    thread,
};

use simple_dns::{CLASS, Packet, QTYPE, ResourceRecord, TYPE, rdata::RData};

const TTL_SECONDS: u32 = 600;

/// A running DNS server on 127.0.0.1. It answers over TCP only.
pub struct NameServer {
    pub address: SocketAddr,
    addresses: Arc<Mutex<Vec<Ipv4Addr>>>,
}

impl NameServer {
    /// Starts a server that answers each query for A records with the addresses set last.
    pub fn start(addresses: &[Ipv4Addr]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let server = Self {
            address: listener.local_addr().unwrap(),
            addresses: Arc::new(Mutex::new(addresses.to_vec())),
        };
        let addresses = Arc::clone(&server.addresses);
        thread::spawn(move || {
            for stream in listener.incoming() {
                let (stream, addresses) = (stream.unwrap(), Arc::clone(&addresses));
                // The client may close its connection at any time.
                thread::spawn(move || drop(serve(stream, &addresses)));
            }
        });
        server
    }

    pub fn set(&self, addresses: &[Ipv4Addr]) {
        *self.addresses.lock().unwrap() = addresses.to_vec();
    }
}

fn serve(mut stream: TcpStream, addresses: &Mutex<Vec<Ipv4Addr>>) -> io::Result<()> {
    loop {
        let mut length = [0; 2];
        stream.read_exact(&mut length)?;
        let mut query = vec![0; usize::from(u16::from_be_bytes(length))];
        stream.read_exact(&mut query)?;
        let answer = answer(&query, &addresses.lock().unwrap());
        stream.write_all(&(answer.len() as u16).to_be_bytes())?;
        stream.write_all(&answer)?;
    }
}

fn answer(query: &[u8], addresses: &[Ipv4Addr]) -> Vec<u8> {
    let query = Packet::parse(query).unwrap();
    let question = &query.questions[0];
    let mut reply = Packet::new_reply(query.id());
    if question.qtype == QTYPE::TYPE(TYPE::A) {
        reply.answers.extend(addresses.iter().map(|address| {
            let data = RData::A((*address).into());
            ResourceRecord::new(question.qname.clone(), CLASS::IN, TTL_SECONDS, data)
        }));
    }
    reply.questions.push(question.clone());
    reply.build_bytes_vec().unwrap()
}
