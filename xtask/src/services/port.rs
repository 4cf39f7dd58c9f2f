//! Free ports for servers.

use std::{
    collections::BTreeSet,
    hash::{BuildHasher, Hasher, RandomState},
    net::{Ipv4Addr, TcpListener},
    ops::Range,
    sync::{Mutex, PoisonError},
};

use anyhow::{Result, bail};

/// Below the ports that Linux and macOS hand to outgoing connections: there, a client that reconnects while the server
/// restarts may be given the server's own port, and then keeps it.
const RANGE: Range<u16> = 15_000..30_000;
const TRIES: u32 = 200;

/// Ports that this program gave out: a server that starts beside others binds its own only in a while.
static GIVEN: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());

/// A port on the loopback address that nothing listens on, and that no other call answers.
pub(crate) fn free() -> Result<u16> {
    let mut given = GIVEN.lock().unwrap_or_else(PoisonError::into_inner);
    let count = u64::from(RANGE.end - RANGE.start);
    for _ in 0..TRIES {
        let drawn = RandomState::new().build_hasher().finish() % count;
        let port = RANGE.start + u16::try_from(drawn).unwrap_or_default();
        if !given.contains(&port) && TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            given.insert(port);
            return Ok(port);
        }
    }
    bail!("no free port between {} and {} on 127.0.0.1", RANGE.start, RANGE.end)
}
