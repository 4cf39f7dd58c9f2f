//! Free ports for servers.

use std::{
    hash::{BuildHasher, Hasher, RandomState},
    net::{Ipv4Addr, TcpListener},
    ops::Range,
};

use anyhow::{Result, bail};

/// Below the ports that Linux and macOS hand to outgoing connections: there, a client that reconnects while the server
/// restarts may be given the server's own port, and then keeps it.
const RANGE: Range<u16> = 15_000..30_000;
const TRIES: u32 = 200;

/// A port on the loopback address that nothing listens on.
pub(crate) fn free() -> Result<u16> {
    let count = u64::from(RANGE.end - RANGE.start);
    for _ in 0..TRIES {
        let drawn = RandomState::new().build_hasher().finish() % count;
        let port = RANGE.start + u16::try_from(drawn).unwrap_or_default();
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return Ok(port);
        }
    }
    bail!("no free port between {} and {} on 127.0.0.1", RANGE.start, RANGE.end)
}
