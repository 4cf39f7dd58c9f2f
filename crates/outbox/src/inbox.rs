//! Deduplicating consumers: a handler's changes in the inbox's own database apply exactly once for each message.
//!
//! [`Inbox`] runs handlers on the messages of a source (`KafkaSource` or `AmqpSource`), with a storage beside the tables that the handlers
//! change (`PostgresInbox`, `MysqlInbox` or `SqliteInbox`). Before the first run, `outbox migrate up --inbox --database URL` (or `migrations`) creates its tables.
//!
//! A handler that appends to the outbox through the connection that it gets chains services: its events commit with its changes.

pub use outbox_core::inbox as ports;
pub use outbox_inbox::*;

#[cfg(any(feature = "mysql", feature = "postgres", feature = "sqlite"))]
pub use outbox_diesel::inbox::{DEFAULT_INBOX_PREFIX as DEFAULT_TABLE_PREFIX, InboxTables, migrations};

#[cfg(feature = "mysql")]
pub use outbox_diesel::inbox::mysql;
#[cfg(feature = "postgres")]
pub use outbox_diesel::inbox::postgres;
#[cfg(feature = "sqlite")]
pub use outbox_diesel::inbox::sqlite;
