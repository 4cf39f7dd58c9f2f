use std::{
    thread,
    time::{Duration, Instant},
};

use anyhow::Result;
use rand::{RngExt as _, rngs::StdRng};
use tokio::runtime::Runtime;
use xtask::interrupt;

use super::{
    consumer::SESSION_TIMEOUT,
    database,
    fleet::{Fleet, Orders},
    lag,
    plan::Fault,
    producer,
    tally::ConsumerTally,
};
use crate::{options::BrokerKind, servers::Servers};

const CONSUMERS: usize = 3;
/// How much longer than its session a consumer is paused: others work on its partitions when it goes on.
const PAUSE_PAST_SESSION: Duration = Duration::from_secs(2);
/// Between two looks at the database and the consumers.
const LOOK_INTERVAL: Duration = Duration::from_millis(200);
const DRAIN_LIMIT: Duration = Duration::from_secs(180);

/// What was done to whom.
#[derive(Debug)]
pub(super) struct Injected {
    pub(super) fault: Fault,
    /// The consumer that was hit, when one was.
    pub(super) victim: Option<String>,
    /// Messages that were applied when it began.
    pub(super) applied: u64,
}

/// The servers and the consumers of a run.
pub(super) struct Stage<'a> {
    pub(super) fleet: Fleet,
    runtime: &'a Runtime,
    servers: Servers,
    database: String,
    broker: BrokerKind,
}

impl<'a> Stage<'a> {
    /// Starts the consumers.
    pub(super) fn open(runtime: &'a Runtime, servers: Servers, broker: BrokerKind, orders: Orders) -> Result<Self> {
        let database = orders.database.clone();
        Ok(Self { fleet: Fleet::open(orders, CONSUMERS)?, runtime, servers, database, broker })
    }

    /// Injects one fault.
    pub(super) fn inject(&mut self, fault: Fault, rng: &mut StdRng) -> Result<Injected> {
        let applied = self.applied()?;
        let victim = match fault {
            Fault::Kill => {
                let victim = self.victim(rng)?;
                let name = self.fleet.kill(victim)?;
                self.fleet.join()?;
                Some(name)
            }
            Fault::Pause => {
                let victim = self.victim(rng)?;
                Some(self.fleet.pause(victim, SESSION_TIMEOUT + PAUSE_PAST_SESSION)?)
            }
            Fault::DatabaseRestart => {
                self.servers.restart_database()?;
                None
            }
            Fault::BrokerRestart => {
                self.servers.restart_broker()?;
                None
            }
        };
        self.fleet.look()?;
        Ok(Injected { fault, victim, applied })
    }

    /// Messages that are applied by now.
    pub(super) fn applied(&self) -> Result<u64> {
        self.runtime.block_on(database::applied(&self.database))
    }

    /// Lets time pass.
    pub(super) fn quiet(&mut self, time: Duration) -> Result<()> {
        let since = Instant::now();
        while since.elapsed() < time {
            interrupt::check()?;
            self.fleet.look()?;
            thread::sleep(LOOK_INTERVAL.min(time.saturating_sub(since.elapsed())));
        }
        Ok(())
    }

    /// Waits until every message is applied, nothing is held, and the broker has nothing more to deliver.
    pub(super) fn drained(&mut self, messages: u64) -> Result<()> {
        let since = Instant::now();
        loop {
            self.quiet(LOOK_INTERVAL)?;
            let (applied, held) = self.runtime.block_on(async {
                Ok::<_, anyhow::Error>((
                    database::applied(&self.database).await?,
                    database::held(&self.database).await?,
                ))
            })?;
            let lag = if applied >= messages && held == 0 { Some(self.lag()?) } else { None };
            if lag == Some(0) {
                return Ok(());
            }
            if since.elapsed() > DRAIN_LIMIT {
                let lag = lag.map_or("unknown".to_owned(), |lag| lag.to_string());
                anyhow::bail!(
                    "not everything is applied {} s after the last fault: {applied} of {messages} are, {held} messages and keys are \
                     held or parked, lag {lag}",
                    DRAIN_LIMIT.as_secs()
                );
            }
        }
    }

    /// Lets the consumers leave; what they said of themselves. The servers stay for the verification.
    pub(super) fn close(self) -> Result<(Servers, ConsumerTally)> {
        Ok((self.servers, self.fleet.close()?))
    }

    fn victim(&mut self, rng: &mut StdRng) -> Result<usize> {
        self.fleet.look()?;
        while self.fleet.running().is_empty() {
            self.quiet(LOOK_INTERVAL)?; // every pause ends by itself
        }
        let running = self.fleet.running();
        Ok(running[rng.random_range(0..running.len())])
    }

    fn lag(&self) -> Result<i64> {
        match self.broker {
            BrokerKind::Kafka => lag::of_kafka(self.servers.broker_address()),
            BrokerKind::Rabbitmq => lag::of_rabbitmq(&self.servers, producer::TOPIC),
        }
    }
}
