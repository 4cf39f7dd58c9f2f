//! The transactional outbox: a service commits a business change and the events that describe it in one database
//! transaction; a relay delivers every committed event to Kafka or RabbitMQ, in order per key, and none that rolled back.
//!
#![cfg_attr(all(feature = "postgres", feature = "kafka"), doc = "```no_run")]
#![cfg_attr(not(all(feature = "postgres", feature = "kafka")), doc = "```text")]
//! # use diesel_async::{AsyncConnection, AsyncPgConnection, RunQueryDsl};
//! use outbox::{Event, KafkaTransport, PostgresOutbox, PostgresStorage, Relay};
//! # diesel::table! { orders { id -> BigInt, total_cents -> BigInt, } }
//!
//! #[derive(serde::Serialize)]
//! struct OrderPlaced { order_id: i64, total_cents: i64 }
//!
//! impl Event for OrderPlaced {
//!     const AGGREGATE_TYPE: &'static str = "order"; // the topic
//!     const EVENT_TYPE: &'static str = "order.placed";
//!     fn aggregate_id(&self) -> Option<String> { Some(self.order_id.to_string()) } // the ordering key
//! }
//!
//! # async fn place(conn: &mut AsyncPgConnection, outbox: PostgresOutbox) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
//! // In the service: the caller's own transaction on any diesel-async connection.
//! conn.transaction(async |conn| {
//!     diesel::insert_into(orders::table).values((orders::id.eq(7), orders::total_cents.eq(1250))).execute(conn).await?;
//!     outbox.append(conn, &OrderPlaced { order_id: 7, total_cents: 1250 }).await?;
//!     Ok::<_, Box<dyn std::error::Error + Send + Sync>>(())
//! }).await?;
//! # Ok(()) }
//! # use diesel::ExpressionMethods as _;
//! # async fn relay(url: &str, brokers: &str, shutdown: impl Future<Output = ()>) -> Result<(), Box<dyn std::error::Error>> {
//!
//! // The relay: in the same program, in another, or `outbox relay` without a line of code.
//! Relay::builder(PostgresStorage::connect(url).await?, KafkaTransport::connect(brokers)?)
//!     .build()?
//!     .run(shutdown)
//!     .await?;
//! # Ok(()) }
//! ```
//!
//! It is the same with `MysqlOutbox` and `MysqlStorage` or `SqliteOutbox` and `SqliteStorage`, and with `AmqpTransport`: any database goes
//! with either broker. Before the first run, `outbox migrate up --database URL` (or `migrations`) creates the tables.
//!
//! # Consumers
//!
//! With the feature `inbox`: a handler's changes in the consumer's own database apply exactly once for each message, whatever the broker
//! delivers again.
//!
#![cfg_attr(all(feature = "inbox", feature = "postgres", feature = "kafka"), doc = "```no_run")]
#![cfg_attr(not(all(feature = "inbox", feature = "postgres", feature = "kafka")), doc = "```text")]
//! use diesel::prelude::*;
//! use diesel_async::{AsyncPgConnection, RunQueryDsl};
//! use outbox::{Delivery, Event, Failure, Inbox, KafkaSource, PostgresInbox};
//! # diesel::table! { accounts { id -> BigInt, cents -> BigInt, } }
//!
//! #[derive(serde::Serialize, serde::Deserialize)]
//! struct OrderPlaced { order_id: i64, total_cents: i64 }
//!
//! # impl Event for OrderPlaced {
//! #     const AGGREGATE_TYPE: &'static str = "order";
//! #     const EVENT_TYPE: &'static str = "order.placed";
//! #     fn aggregate_id(&self) -> Option<String> { Some(self.order_id.to_string()) }
//! # }
//! // As above: `impl Event for OrderPlaced`, whose `EVENT_TYPE` says which messages the handler gets.
//! async fn charge(conn: &mut AsyncPgConnection, event: OrderPlaced, _: &Delivery) -> Result<(), Failure> {
//!     let account = accounts::table.find(event.order_id);
//!     diesel::update(account).set(accounts::cents.eq(accounts::cents + event.total_cents)).execute(conn).await?;
//!     Ok(())
//! }
//!
//! # async fn consume(url: &str, brokers: &str, shutdown: impl Future<Output = ()>) -> Result<(), Box<dyn std::error::Error>> {
//! Inbox::builder(PostgresInbox::connect(url).await?, "billing") // the consumer's name, and its group in Kafka
//!     .on(charge)
//!     .source(KafkaSource::new(brokers, ["order"])?)
//!     .build()?
//!     .run(shutdown)
//!     .await?;
//! # Ok(()) }
//! ```
//!
//! # The promise
//!
//! - **No loss.** An event whose transaction committed is acknowledged by the broker at least once, or sits in a visible state
//!   (waiting, parked, dead letter) with its reason.
//! - **No ghosts.** An event whose transaction rolled back is never published.
//! - **Order.** For one ordering key, first deliveries follow the order of the commits.
//! - **Duplicates** only after a fault, with the same message id: consumers deduplicate on it.
//! - **Effects.** What a handler of an inbox changes in the inbox's own database applies exactly once, as far back as identities are remembered
//!   (7 days unless set otherwise).
//!
//! # Where things are
//!
//! | what | where |
//! |---|---|
//! | typed events and plain messages to append | [`Event`], [`NewMessage`], [`Limits`] |
//! | the relay, its configuration, statistics and health | [`Relay`], [`RelayConfig`], [`RelayHandle`] |
//! | a consumer that applies each message once | `Inbox`, `InboxConfig`, `Delivery` and the module `inbox`, with the feature |
//! | dead letters and parked keys, for operators | [`Storage::admin`], [`ports::Admin`]; of an inbox `inbox::ports::InboxAdmin` |
//! | a database or a broker of your own | [`ports`]: implement them, run `outbox-testkit` |
//! | names of the tables and their SQL | `Tables` and `migrations`, with any database feature |
//!
//! # Features
//!
//! None is on by default, and features only add.
//!
//! | feature | brings |
//! |---|---|
//! | `postgres` | `PostgresOutbox` and `PostgresStorage` on diesel-async |
//! | `postgres-tls` | TLS to PostgreSQL with rustls |
//! | `mysql` | `MysqlOutbox` and `MysqlStorage` on diesel-async, for MySQL and MariaDB |
//! | `mysql-tls` | TLS to MySQL with rustls |
//! | `sqlite` | `SqliteOutbox` and `SqliteStorage`, with SQLite built in |
//! | `kafka` | `KafkaTransport` on rdkafka |
//! | `kafka-ssl` | TLS to Kafka with OpenSSL |
//! | `kafka-zstd` | zstd compression on the way to Kafka |
//! | `amqp` | `AmqpTransport` for RabbitMQ on lapin, TLS included |
//! | `inbox` | `Inbox`, with `PostgresInbox`, `MysqlInbox` and `SqliteInbox` where `postgres`, `mysql` and `sqlite` are on, and `KafkaSource` and `AmqpSource` where `kafka` and `amqp` are |

#[cfg(feature = "inbox")]
pub mod inbox;

pub use outbox_core::{
    Event, Headers, InvalidMessage, Limits, Message, NewMessage, Storage, ToMessage, Transport, message, ports,
    relay::{
        Backoff, DeadLetterPolicy, Health, HealthReason, HealthStatus, InvalidConfig, Relay, RelayBuilder, RelayConfig,
        RelayError, RelayHandle, RelayReport, RelayStats,
    },
};

#[cfg(feature = "mysql")]
pub use outbox_diesel::mysql::{self, MysqlOutbox, MysqlStorage};
#[cfg(feature = "postgres")]
pub use outbox_diesel::postgres::{self, PostgresOutbox, PostgresStorage};
#[cfg(feature = "sqlite")]
pub use outbox_diesel::sqlite::{self, SqliteOutbox, SqliteStorage};
#[cfg(any(feature = "mysql", feature = "postgres", feature = "sqlite"))]
pub use outbox_diesel::{AppendError, DEFAULT_PREFIX as DEFAULT_TABLE_PREFIX, InvalidTables, Tables, migrations};

#[cfg(feature = "kafka")]
pub use outbox_kafka::{self as kafka, KafkaTransport, KafkaTransportBuilder};

#[cfg(feature = "amqp")]
pub use outbox_amqp::{self as amqp, AmqpTransport, AmqpTransportBuilder};

#[cfg(feature = "inbox")]
pub use outbox_inbox::{Delivery, Failure, Inbox, InboxConfig, InboxError, InboxHandle, InboxReport};

#[cfg(all(feature = "inbox", feature = "mysql"))]
pub use outbox_diesel::inbox::mysql::MysqlInbox;
#[cfg(all(feature = "inbox", feature = "postgres"))]
pub use outbox_diesel::inbox::postgres::PostgresInbox;
#[cfg(all(feature = "inbox", feature = "sqlite"))]
pub use outbox_diesel::inbox::sqlite::SqliteInbox;

#[cfg(all(feature = "inbox", feature = "amqp"))]
pub use outbox_amqp::AmqpSource;
#[cfg(all(feature = "inbox", feature = "kafka"))]
pub use outbox_kafka::KafkaSource;
