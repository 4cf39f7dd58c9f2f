//! The relay: takes committed messages from a storage and hands them to a transport, in order per key.
//!
//! The engine reads like the way of a message: own shards (`ownership`) → read (`intake`, `accept`) → lanes
//! (`lanes`, `routes`, `slots`) → publish (`publishing`, `outcomes`) → settle (`settling`), with failures in rooms of their own (`verdicts`, `failing`) and
//! what concerns many messages at once in `sessions`. One future owns all state (`engine`) and polls the calls of the
//! ports; nothing is spawned. Dropping that future is a crash, not polling it is a pause, and both are safe.

mod accept;
mod builder;
mod config;
mod defect;
mod engine;
mod failing;
mod given_up;
mod handle;
mod health;
mod intake;
mod known;
mod lanes;
mod outcomes;
mod ownership;
mod publishing;
mod routes;
mod sessions;
mod settling;
mod slots;
mod stats;
mod verdicts;

pub use builder::{Relay, RelayBuilder, RelayError, RelayReport};
pub use config::{Backoff, DeadLetterPolicy, InvalidConfig, RelayConfig};
#[cfg(feature = "simulation")]
pub use defect::Defect;
pub use handle::RelayHandle;
pub use health::{Health, HealthReason, HealthStatus};
pub use stats::RelayStats;
