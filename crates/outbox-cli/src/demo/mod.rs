//! `outbox demo`: the whole way of an event, from the writer's transaction to the consumer's, and a verification of both.

mod books;
mod broker;
mod chaos;
mod consuming;
mod display;
mod event;
mod life;
mod relaying;
mod run;
mod shop;
mod summary;
mod tally;
mod verify;
mod writers;

use std::{fs, path::PathBuf};

use anyhow::{Context, Result, bail};
use clap::Args;
use uuid::Uuid;

use self::{broker::MOCK_MAX_EVENTS, writers::Work};
use crate::{broker::BrokerAddress, database::Database, secrets::Secrets, values::grouped};

/// The most events on real services: the verification keeps all of them in memory.
const REAL_MAX_EVENTS: u64 = 2_000_000;

/// Events a second unless told otherwise: the demo is over before anybody looks away.
const RATE: u32 = 3_000;
/// The same with chaos, which needs some time to kill.
const CHAOS_RATE: u32 = 1_000;

/// Place orders, deliver their events, apply each to a balance, and verify that none was lost, invented, reordered or applied twice
///
/// Writers change orders and append an event for each change in the same transaction. The relay delivers the events, and a consumer with
/// an inbox applies them to balances in the database. What the broker holds is compared with what was committed by a consumer of its own, and
/// the balances are recomputed from the orders by SQL.
///
/// Without arguments everything runs in this process: a SQLite file in a temporary folder and an in-process broker that speaks
/// Kafka's protocol. With --database and --kafka or --amqp the same runs on real services, in tables and a topic or a queue of its
/// own that are removed at the end.
#[derive(Args, Debug)]
pub(crate) struct Demo {
    /// Database to use instead of a temporary SQLite file: postgres://USER@HOST:PORT/NAME, mysql://USER@HOST:PORT/NAME or sqlite:PATH
    // From the command line only: a demo must not end up on the database of a relay by its environment.
    #[arg(long, value_name = "URL")]
    database: Option<String>,

    /// Kafka to use instead of the in-process broker
    #[arg(long, value_name = "HOST:PORT")]
    kafka: Option<String>,

    /// RabbitMQ to use instead of the in-process broker: amqp://USER:PASSWORD@HOST:PORT/VHOST or amqps://…
    #[arg(long, value_name = "URL")]
    amqp: Option<String>,

    /// PEM file with an authority to trust besides the public ones, for amqps://
    #[arg(long, value_name = "FILE", requires = "amqp")]
    amqp_ca: Option<PathBuf>,

    /// Kill and restart the relay or the consumer about once a second while the orders are placed
    ///
    /// A kill drops the whole part in the middle of whatever it does, without a drain: its transactions roll back, its connections close, what it
    /// has published may not be marked as delivered, and what it has applied may not be acknowledged. The next one starts at once. What must
    /// follow is duplicates on the broker, and none of them in the balances.
    #[arg(long)]
    chaos: bool,

    /// Events to commit
    #[arg(long, value_name = "EVENTS", default_value = "20000")]
    events: u64,

    /// Writers, each with a connection of its own
    #[arg(long, value_name = "WRITERS", default_value = "4")]
    writers: usize,

    /// Events committed a second by all writers together, 0: as fast as possible [default: 3000, with --chaos 1000]
    #[arg(long, value_name = "EVENTS")]
    rate: Option<u32>,

    /// Different orders, which are the ordering keys
    #[arg(long, value_name = "ORDERS", default_value = "1000")]
    orders: u32,
}

/// A demo whose values are within their limits.
struct Plan {
    database: Option<Database>,
    broker: Option<BrokerAddress>,
    /// Of the authority to trust for `amqps://`.
    amqp_ca_pem: Option<String>,
    /// Whether relay and consumer are killed.
    chaos: bool,
    work: Work,
    /// Unique to the run: table and topic names start with it.
    prefix: String,
}

impl Demo {
    /// Runs the demo. Returns whether the promise was kept.
    ///
    /// # Errors
    ///
    /// When a value is out of its limits, or the demo could not be carried through.
    ///
    /// # Cancellation
    ///
    /// What it made on real services stays behind.
    pub(crate) async fn run(self, secrets: &mut Secrets) -> Result<bool> {
        run::run(self.plan(secrets)?).await
    }

    fn plan(self, secrets: &mut Secrets) -> Result<Plan> {
        let database = self.database.as_deref().map(Database::parse).transpose()?;
        if let Some(database) = &database {
            database.collect_secrets(secrets);
        }
        let broker = BrokerAddress::given(self.kafka.as_deref(), self.amqp.as_deref())?;
        if let Some(broker) = &broker {
            broker.collect_secrets(secrets);
        }
        let read_ca =
            |file: &PathBuf| fs::read_to_string(file).with_context(|| format!("--amqp-ca: {}", file.display()));
        let amqp_ca_pem = self.amqp_ca.as_ref().map(read_ca).transpose()?;
        let (most, whose) = if broker.is_none() {
            // A killed relay delivers some of its events again.
            (if self.chaos { MOCK_MAX_EVENTS / 2 } else { MOCK_MAX_EVENTS }, "the in-process broker holds")
        } else {
            (REAL_MAX_EVENTS, "the verification holds")
        };
        within("--events", self.events, 1, most, whose)?;
        within("--writers", self.writers as u64, 1, 64, "the demo runs")?;
        within("--orders", u64::from(self.orders), 100, 1_000_000, "the demo spreads its events over")?;
        let rate = self.rate.unwrap_or(if self.chaos { CHAOS_RATE } else { RATE });
        Ok(Plan {
            database,
            broker,
            amqp_ca_pem,
            chaos: self.chaos,
            work: Work { writers: self.writers, events: self.events, orders: self.orders, rate },
            prefix: format!("demo_{:08x}_", (Uuid::new_v4().as_u128() >> 96) as u32),
        })
    }
}

fn within(key: &str, value: u64, min: u64, max: u64, reason: &str) -> Result<()> {
    if !(min..=max).contains(&value) {
        bail!("{key} is {}: it must be {} to {}, which {reason}", grouped(value), grouped(min), grouped(max));
    }
    Ok(())
}
