//! Deduplicating consumers: a handler's changes in the inbox's own database apply exactly once for each message, whatever the
//! broker redelivers.
//!
//! ```
//! use outbox_core::Event;
//! use outbox_core::inbox::{Acknowledging, IncomingHeaders};
//! use outbox_inbox::{Delivery, Failure, Inbox};
//! use outbox_testkit::memory::{MemoryConnection, MemoryInbox, MemorySource};
//!
//! #[derive(serde::Serialize, serde::Deserialize)]
//! struct OrderPlaced { order_id: u64, total_cents: i64 }
//!
//! impl Event for OrderPlaced {
//!     const AGGREGATE_TYPE: &'static str = "order";
//!     const EVENT_TYPE: &'static str = "order.placed";
//!     fn aggregate_id(&self) -> Option<String> { Some(self.order_id.to_string()) }
//! }
//!
//! async fn charge(conn: &mut MemoryConnection, event: OrderPlaced, _: &Delivery) -> Result<(), Failure> {
//!     conn.add("revenue", event.total_cents).await?; // with a database: any statement through its connection
//!     Ok(())
//! }
//!
//! # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
//! # let (storage, source) = (MemoryInbox::new(), MemorySource::new(Acknowledging::Cumulative, 1, &["order"]));
//! # let shutdown = std::future::ready(());
//! Inbox::builder(storage, "billing")
//!     .on(charge)
//!     .source(source)
//!     .build()?
//!     .run(shutdown)
//!     .await?;
//! # Ok::<(), Failure>(())
//! # }).unwrap();
//! ```
//!
//! One transaction holds the dedup rows (consumer, source, id), the handlers' own changes through the same connection, and any
//! events that a handler appends to the outbox. After its commit the broker is acknowledged. A message that fails is kept in the
//! database with its key parked and its followers behind it, and the partition goes on.
//!
//! # Two consumers that both think a partition is theirs
//!
//! A consumer that stood still (`SIGSTOP`, a suspended machine) and its successor may work on the same messages for a while. Effects still apply
//! once: each message has one dedup row, and whoever comes second waits for the first transaction and finds it processed. The order per key
//! holds as well: each of the two goes through the partition from its own start, so that each has itself applied, or found processed or
//! held, everything that precedes a message in its partition before it begins that message; and a key that one of them parks is seen by the other, because parked
//! keys are looked for after the dedup rows are inserted. What a handler does *outside* of the inbox's database may happen again.
//!
//! # Where things are
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
