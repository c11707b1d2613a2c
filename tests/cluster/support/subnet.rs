//! Loopback addresses: each test binary owns 127.x.0.0/16, so that fixed ports (7050, 9443, ...) never collide.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, TcpListener};
use std::sync::Mutex;

/// A block 127.x.0.0/16, held as long as this lives.
pub struct Subnet {
    block: u8,
    taken: Mutex<BTreeSet<u16>>,
    /// A listening socket is a lock that the kernel takes back when the process is gone.
    _lock: TcpListener,
}

impl Subnet {
    /// Takes the first free block.
    pub fn claim() -> std::io::Result<Self> {
        let start = std::process::id() % 200;
        let mut last = std::io::Error::other("no block");
        for step in 0..200 {
            let block = 20 + ((start + step) % 200) as u8;
            match TcpListener::bind((Ipv4Addr::new(127, block, 255, 254), 1024)) {
                Ok(lock) => return Ok(Self { block, taken: Mutex::default(), _lock: lock }),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// An address that nobody else of this binary has, until it is given back.
    pub fn take(&self) -> Ipv4Addr {
        let mut taken = self.taken.lock().expect("no panic while held");
        let free =
            (1..u16::MAX - 512).find(|n| n % 256 != 0 && !taken.contains(n)).expect("65,000 addresses are enough");
        taken.insert(free);
        Ipv4Addr::new(127, self.block, (free >> 8) as u8, (free & 0xff) as u8)
    }

    /// Gives an address back.
    pub fn give_back(&self, address: Ipv4Addr) {
        let [_, _, high, low] = address.octets();
        self.taken.lock().expect("no panic while held").remove(&(u16::from(high) << 8 | u16::from(low)));
    }
}
