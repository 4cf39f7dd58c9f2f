//! A storage and a transport in memory: naive, complete, and right as the conformance suites define it.
//!
//! They are for the tests of programs that use the outbox, and need no service:
//!
//! ```
//! use outbox_core::NewMessage;
//! use outbox_testkit::memory::{MemoryStorage, MemoryTransport};
//!
//! # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
//! let (storage, transport) = (MemoryStorage::new(4), MemoryTransport::new());
//! let mut transaction = storage.begin();
//! transaction.append(&NewMessage::new("order", "order.placed", b"{}".to_vec()).aggregate_id("7"))?;
//! transaction.commit(); // dropping it instead rolls it back
//! assert_eq!(storage.pending().len(), 1);
//! assert!(transport.published_to("order").is_empty(), "no relay runs yet");
//! # Ok::<(), outbox_core::InvalidMessage>(())
//! # }).unwrap();
//! ```

mod inbox;
mod inbox_source;
mod storage;
mod transport;

pub use inbox::{MemoryConnection, MemoryInbox, MemoryInboxError, MemoryInboxTransaction};
pub use inbox_source::MemorySource;
pub use storage::{MemoryStorage, MemoryTransaction};
pub use transport::{MemoryTransport, PublishedMessage};
