//! Messages, ports and the relay engine of the transactional outbox.
//!
//! This crate knows no database and no broker. A *storage* ([`ports::Storage`]) keeps the messages that services
//! committed together with their data; a *transport* ([`ports::Transport`]) hands them to a broker; the relay
//! ([`relay::Relay`]) stands between the two and keeps the promise: no loss, no ghosts, order per key.
//!
//! Most programs use the facade crate `outbox`, which re-exports what is needed behind features.

pub mod event;
pub mod inbox;
pub mod message;
pub mod order;
pub mod ports;
pub mod relay;

pub use event::{Event, ToMessage};
pub use message::{Headers, InvalidMessage, Limits, Message, NewMessage};
pub use ports::{Storage, Transport};
pub use relay::{Relay, RelayBuilder, RelayConfig, RelayHandle};
