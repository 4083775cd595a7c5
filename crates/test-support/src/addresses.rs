//! Addresses that no other test uses.

use std::{
    net::{Ipv4Addr, TcpListener},
    sync::atomic::{AtomicU8, Ordering},
};

/// Host `number` of this process alone: all of 127/8 is this machine.
pub fn own_host(number: u8) -> Ipv4Addr {
    let [_, _, high, low] = std::process::id().to_be_bytes();
    Ipv4Addr::new(127, high, low, number)
}

/// An address without a listener. No other process uses its host, so no other test, and no
/// connection, can be given its port meanwhile.
pub fn unused_address() -> String {
    // Downwards: those who number their own hosts begin with 1.
    static NEXT: AtomicU8 = AtomicU8::new(u8::MAX);
    let host = own_host(NEXT.fetch_sub(1, Ordering::Relaxed));
    let listener = TcpListener::bind((host, 0)).unwrap();
    listener.local_addr().unwrap().to_string()
}
