//! Deduplicating consumers: a handler's changes in the inbox's own database apply exactly once for each message, whatever the
//! broker redelivers.
//!
//! ```text
//! Inbox::builder(storage, "billing")?
//!     .on(async |conn: &mut AsyncPgConnection, event: OrderPlaced, _: &Delivery| charge(conn, event).await)
//!     .source(source)
//!     .build()?
//!     .run(shutdown)
//!     .await?;
//! ```
//!
//! One transaction holds the dedup rows (consumer, source, id), the handlers' own changes through the same connection, and any
//! events that a handler appends to the outbox. After its commit the broker is acknowledged. A message that fails is kept in the
//! database with its key parked and its followers behind it, and the partition goes on.
//!
//! | what | where |
//! |---|---|
//! | a consumer: handlers, source, configuration | [`Inbox`], [`InboxBuilder`], [`InboxConfig`] |
//! | what a handler gets | the storage's connection, the typed event, and the [`Delivery`] |
//! | how a message is read | [`Decoder`], [`CloudEvents`], [`Plain`], [`Standard`] |
//! | the ports | [`outbox_core::inbox`] |

mod builder;
mod config;
mod decoder;
mod defect;
mod delivery;
mod engine;
mod error;
mod handle;
mod handler;
mod health;
mod stats;

pub use builder::{Inbox, InboxBuilder, InboxBuilderWithSource, InboxReport};
pub use config::{InboxConfig, Mode, UnknownTypes};
pub use decoder::{CloudEvents, Decoder, Envelope, InvalidEnvelope, Plain, Standard};
#[cfg(feature = "simulation")]
pub use defect::Defect;
pub use delivery::Delivery;
pub use error::InboxError;
pub use handle::InboxHandle;
pub use handler::{Failure, HandlerFn, RawHandlerFn, StateHandlerFn};
pub use health::{InboxHealth, InboxHealthReason};
pub use stats::InboxStats;
