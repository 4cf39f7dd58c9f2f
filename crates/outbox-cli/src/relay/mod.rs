//! `outbox relay`: a relay of its own, for services in any language.

mod broker;
mod progress;
mod tuning;

use std::{sync::Arc, time::Duration};

use anyhow::{Context, Result, bail};
use clap::Args;
use outbox::{MysqlStorage, PostgresStorage, Relay, SqliteStorage, Storage, Tables};

use self::{broker::BrokerArgs, progress::Progress, tuning::Tuning};
use crate::{
    database::Database,
    interrupt::Interrupt,
    secrets::Secrets,
    tables::TableArgs,
    values::{duration, grouped},
};

/// Deliver committed messages to Kafka or RabbitMQ, in order per key, until interrupted
///
/// On Kafka the topic is the message's aggregate_type, the record's key its aggregate_id, and the value its payload as it is. On
/// RabbitMQ the exchange is `outbox` and the routing key aggregate_type.event_type, unless told otherwise, and the body the payload. An interrupt (Ctrl-C, SIGTERM) finishes what is in flight; a second one ends at once with exit code 130. Logs go to standard error; OUTBOX_LOG
/// sets their filter, for example OUTBOX_LOG=debug.
#[derive(Args, Debug)]
pub(crate) struct RelayCommand {
    /// Database with the outbox tables: postgres://USER@HOST:PORT/NAME, mysql://USER@HOST:PORT/NAME or sqlite:PATH
    #[arg(long, value_name = "URL", env = "OUTBOX__DATABASE", hide_env_values = true)]
    database: String,

    /// Also wake up by PostgreSQL's NOTIFY, which appends must send (`PostgresOutbox::with_notify`)
    #[arg(long, env = "OUTBOX__LISTEN")]
    listen: bool,

    /// MySQL and MariaDB: the longest that a statement which inserts messages may take; their order rests on it. 250ms unless set, 50ms to 30s
    #[arg(long, value_name = "TIME", env = "OUTBOX__VISIBILITY_MARGIN", value_parser = duration)]
    visibility_margin: Option<Duration>,

    /// End when nothing is pending but messages that wait for their time
    #[arg(long, visible_alias = "once")]
    drain: bool,

    /// Time between two progress lines
    #[arg(long, value_name = "TIME", env = "OUTBOX__PROGRESS_INTERVAL", default_value = "5s", value_parser = duration)]
    progress_interval: Duration,

    #[command(flatten)]
    broker: BrokerArgs,

    #[command(flatten)]
    tables: TableArgs,

    #[command(flatten)]
    tuning: Tuning,
}

impl RelayCommand {
    /// Relays until interrupted, or until nothing is pending with `--drain`.
    ///
    /// # Errors
    ///
    /// When a value cannot be used, the database must not be used as it is, or a drain was cut by its deadline.
    ///
    /// # Cancellation
    ///
    /// As a crash of the relay: nothing is lost.
    pub(crate) async fn run(self, secrets: &mut Secrets) -> Result<()> {
        let database = Database::parse(&self.database)?;
        database.collect_secrets(secrets);
        let broker = self.broker.address(secrets)?;
        let transport = self.broker.transport(&broker, secrets)?;
        let config = self.tuning.config();
        config.validate()?;
        let tables = self.tables.tables()?;
        if self.listen && !matches!(database, Database::Postgres(_)) {
            bail!("--listen: only PostgreSQL has NOTIFY; the relay polls, or is woken in the same program");
        }
        if self.visibility_margin.is_some() && !matches!(database, Database::Mysql(_)) {
            bail!("--visibility-margin: only MySQL and MariaDB have one; no order rests on time elsewhere");
        }
        let interrupt = Interrupt::listen(|| {})?;
        let storage = self.storage(&database, tables).await?;
        let shards = storage.check().await.context("the database cannot be used")?.shards;
        let relay = Relay::builder_from(storage.clone(), transport).config(config).build()?;
        let progress = Progress::new(relay.handle(), storage, shards, self.progress_interval);
        tracing::info!(%database, %broker, "relay starts");
        let shutdown = async {
            tokio::select! {
                () = interrupt.wait() => {}
                () = progress.until_drained(), if self.drain => {}
            }
        };
        let report = tokio::select! {
            report = relay.run(shutdown) => report?,
            never = progress.report() => match never {},
        };
        let stats = report.stats;
        tracing::info!(published = stats.published, retried = stats.retried, dead = stats.dead, "relay ended");
        if !report.drained {
            bail!(
                "the drain was cut by the shutdown time-out: up to {} messages may be delivered again; \
                 raise --shutdown-timeout or see why the broker or the database is slow",
                grouped(stats.in_flight)
            );
        }
        Ok(())
    }

    async fn storage(&self, database: &Database, tables: Tables) -> Result<Arc<dyn Storage>> {
        Ok(match database {
            Database::Postgres(url) => {
                Arc::new(PostgresStorage::builder(url).tables(tables).listen(self.listen).build()?)
            }
            Database::Mysql(url) => {
                let mut builder = MysqlStorage::builder(url).tables(tables);
                if let Some(margin) = self.visibility_margin {
                    builder = builder.visibility_margin(margin);
                }
                Arc::new(builder.build()?)
            }
            Database::Sqlite(path) => Arc::new(SqliteStorage::builder(path).tables(tables).connect().await?),
        })
    }
}
