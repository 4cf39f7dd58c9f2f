//! One run of the benchmarks, and the steps that measurements are made of.

use std::time::Duration;

use anyhow::Result;
use outbox::RelayConfig;
use tokio_postgres::Client;

use crate::options::Options;
use crate::relays::{Baseline, Drained, as_f64, drain};
use crate::report::{Measure, Measurement};
use crate::services::{Counters, Database, Outbox, Services, Topic};
use crate::workload::Workload;

/// What every measurement works with.
#[derive(Debug)]
pub struct Bench {
    /// Where PostgreSQL and Kafka are.
    pub services: Services,
    /// A database of the run's own.
    pub database: Database,
    /// A connection to it.
    pub client: Client,
    /// What was asked for.
    pub options: Options,
}

impl Bench {
    /// Creates the database.
    ///
    /// # Errors
    ///
    /// PostgreSQL cannot be reached or refuses.
    pub async fn new(services: Services, options: Options) -> Result<Self> {
        let database = Database::create(&services.postgres).await?;
        let client = database.connect().await?;
        Ok(Self { services, database, client, options })
    }

    /// PostgreSQL's version.
    ///
    /// # Errors
    ///
    /// The database cannot be reached.
    pub async fn server_version(&self) -> Result<String> {
        Ok(self.client.query_one("SHOW server_version", &[]).await?.get(0))
    }

    /// The configuration of our relay: the defaults, unless an option says otherwise.
    pub fn config(&self) -> RelayConfig {
        let mut config = RelayConfig::default();
        config.batch_size = self.options.batch_size.unwrap_or(config.batch_size);
        config.max_in_flight = self.options.max_in_flight.unwrap_or(config.max_in_flight);
        config
    }

    /// A fresh outbox and topic.
    ///
    /// # Errors
    ///
    /// A service cannot be reached or refuses.
    pub async fn place(&self) -> Result<(Outbox, Topic)> {
        Ok((Outbox::create(&self.database).await?, Topic::create(&self.services.kafka).await?))
    }

    /// Removes both.
    ///
    /// # Errors
    ///
    /// A service cannot be reached or refuses.
    pub async fn clear(&self, outbox: Outbox, topic: Topic) -> Result<()> {
        outbox.remove(&self.client).await?;
        topic.remove().await
    }

    /// Seeds and drains a workload with our relay. `others`: connections that stay open meanwhile.
    ///
    /// # Errors
    ///
    /// A service or the relay fails.
    pub async fn ours(&self, to: &mut Measurement, variant: &str, workload: &Workload, others: i64) -> Result<()> {
        let (outbox, topic) = self.place().await?;
        outbox.seed(&self.client, workload, &topic).await?;
        self.drain_seeded(to, variant, (&outbox, &topic), workload.rows as u64, others).await?;
        self.clear(outbox, topic).await
    }

    /// Drains `events` of an outbox that was seeded.
    ///
    /// # Errors
    ///
    /// A service or the relay fails.
    pub async fn drain_seeded(
        &self,
        to: &mut Measurement,
        variant: &str,
        (outbox, topic): (&Outbox, &Topic),
        events: u64,
        others: i64,
    ) -> Result<()> {
        let table = outbox.tables().messages();
        let before = Counters::read(&self.client, table, others).await?;
        let drained = drain(outbox, topic, self.config(), events).await?;
        let after = Counters::read(&self.client, table, others).await?;
        sample(to, variant, &drained);
        sample_counts(to, variant, events, &before, &after);
        Ok(())
    }

    /// Seeds and drains a workload with the baseline.
    ///
    /// # Errors
    ///
    /// A service fails.
    pub async fn baseline(&self, to: &mut Measurement, variant: &str, workload: &Workload, others: i64) -> Result<()> {
        let (outbox, topic) = self.place().await?;
        let baseline = Baseline::create(&self.client, &outbox, workload, &topic).await?;
        let table = baseline.table();
        let before = Counters::read(&self.client, &table, others).await?;
        let drained = baseline.drain(&self.database, &topic).await?;
        let after = Counters::read(&self.client, &table, others).await?;
        sample(to, variant, &drained);
        sample_counts(to, variant, workload.rows as u64, &before, &after);
        self.clear(outbox, topic).await
    }

    /// Removes everything of the run.
    ///
    /// # Errors
    ///
    /// PostgreSQL cannot be reached or refuses.
    pub async fn remove(self) -> Result<()> {
        drop(self.client);
        self.database.remove().await
    }
}

/// Adds what a drain took, and says it on the way.
pub fn sample(to: &mut Measurement, variant: &str, drained: &Drained) {
    to.sample(variant, Measure::EventsPerSecond, drained.rate());
    to.sample(variant, Measure::StartUpSeconds, drained.start_up.as_secs_f64());
    if let Some(cpu) = drained.cpu {
        to.sample(variant, Measure::RelayCpuMicrosPerEvent, micros_per_event(cpu, drained.events));
    }
    if let Some(cpu) = drained.machine_cpu {
        to.sample(variant, Measure::MachineCpuMicrosPerEvent, micros_per_event(cpu, drained.events));
    }
    progress(to, variant, &format!("{:.0} events/s", drained.rate()));
}

/// Adds what PostgreSQL counted for `events`.
pub fn sample_counts(to: &mut Measurement, variant: &str, events: u64, before: &Counters, after: &Counters) {
    let count = as_f64(events);
    let signed = |number: i64| as_f64(u64::try_from(number).unwrap_or(0));
    to.sample(variant, Measure::RowsExaminedPerEvent, signed(after.rows_examined_since(before)) / count);
    to.sample(variant, Measure::WalBytesPerEvent, signed(after.wal_bytes_since(before)) / count);
    to.sample(variant, Measure::StatementsPerThousandEvents, signed(after.transactions_since(before)) / count * 1000.0);
    if let Some(cpu) = after.cpu_since(before) {
        to.sample(variant, Measure::PostgresCpuMicrosPerEvent, micros_per_event(cpu, events));
    }
}

/// Says on the standard error stream what was just measured.
pub fn progress(of: &Measurement, variant: &str, what: &str) {
    use std::io::Write as _;
    // nobody to tell is no reason to stop
    let _ = writeln!(std::io::stderr(), "({}) {variant}: {what}", of.letter);
}

fn micros_per_event(time: Duration, events: u64) -> f64 {
    time.as_secs_f64() * 1e6 / as_f64(events)
}
