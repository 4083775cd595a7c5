//! Addresses that are unique to one test process.

use std::{
    net::{Ipv4Addr, TcpListener},
    sync::atomic::{AtomicU8, Ordering},
};

/// Returns a loopback address that only this process uses: 127/8 is loopback, and the two middle
/// bytes come from the process id.
pub fn own_host(number: u8) -> Ipv4Addr {
    let [_, _, high, low] = std::process::id().to_be_bytes();
    Ipv4Addr::new(127, high, low, number)
}

/// Returns an address without a listener. No other process uses its host, so the kernel cannot
/// assign its port to another test or connection meanwhile.
pub fn unused_address() -> String {
    // Counts down, because tests that call `own_host` themselves count up from 1.
    static NEXT: AtomicU8 = AtomicU8::new(u8::MAX);
    let host = own_host(NEXT.fetch_sub(1, Ordering::Relaxed));
    let listener = TcpListener::bind((host, 0)).unwrap();
    listener.local_addr().unwrap().to_string()
}
