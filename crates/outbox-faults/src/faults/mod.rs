//! The relays of a run and what is done to them and to the servers.

mod rabbitmq;

use std::{
    collections::BTreeSet,
    sync::Arc,
    thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use anyhow::Result;
use rustix::process::Signal;
use tokio::runtime::Runtime;
use xtask::deadline;

use crate::{
    broker::Broker,
    database::{self, Connection},
    events::{AGGREGATE_TYPE, BURST, STRAY_TYPE},
    leases::{self, Holding},
    pace::Pace,
    plan::{Fault, Step},
    process::RoleProcess,
    servers::Servers,
    surroundings::{RelayTally, Surroundings},
    writers,
};

/// How much longer than the lease a relay is frozen.
const PAUSE_PAST_LEASE: Duration = Duration::from_secs(2);
/// When waiting for a take-over is given up.
const TAKE_OVER_LIMIT: Duration = Duration::from_secs(30);
const START_LIMIT: Duration = Duration::from_secs(60);
const DRAIN_LIMIT: Duration = Duration::from_secs(60);

/// How long the first confirmation of a burst is waited for: the fault then comes before it.
const BURST_LIMIT: Duration = Duration::from_secs(5);

/// What a fault did.
#[derive(Debug)]
pub(crate) struct Injected {
    pub(crate) step: Step,
    /// The relay run that was hit, when one was.
    pub(crate) victim: Option<String>,
    /// When it began, in milliseconds since 1970.
    pub(crate) begun_at_ms: i64,
    /// From when on delivery may go on, in milliseconds since 1970: the begin, or when the server answered again.
    pub(crate) possible_at_ms: i64,
    /// Shards that the victim owned.
    pub(crate) shards: BTreeSet<i16>,
    /// Until all of them had another owner; `None` when no relay was hit or they never had.
    pub(crate) taken_over: Option<Duration>,
    /// What a relay's health said while it lasted, where that is part of the promise.
    pub(crate) health: Option<String>,
    /// What was not as promised while it lasted.
    pub(crate) wrong: Vec<String>,
}

/// The relays and the servers, and what can be done to them.
pub(crate) struct Stage<'a> {
    runtime: &'a Runtime,
    servers: Servers,
    broker: Broker,
    surroundings: Surroundings,
    relays: Vec<RoleProcess>,
    /// Relays started so far; part of their names.
    started: usize,
    /// Sum of what ended relays said of themselves.
    ended: Vec<RelayTally>,
    pace: Arc<Pace>,
}

impl<'a> Stage<'a> {
    /// Starts the relays and waits until they share all shards.
    pub(crate) fn open(
        runtime: &'a Runtime,
        (servers, broker): (Servers, Broker),
        surroundings: Surroundings,
        relays: usize,
        pace: Arc<Pace>,
    ) -> Result<Self> {
        let (started, ended) = (0, Vec::new());
        let mut stage = Self { runtime, servers, broker, surroundings, relays: Vec::new(), started, ended, pace };
        for _ in 0..relays {
            let relay = stage.start_relay()?;
            stage.relays.push(relay);
        }
        deadline::wait("all relays own shards", START_LIMIT, || {
            stage.check()?;
            let rows = stage.observe(async |conn| conn.leases().await)?;
            let owners: BTreeSet<_> = rows.iter().map(|row| row.owner).collect();
            Ok((owners.len() == relays && !owners.contains(&None)).then_some(()))
        })?;
        Ok(stage)
    }

    /// Fails when a relay has ended by itself.
    pub(crate) fn check(&mut self) -> Result<()> {
        self.relays.iter_mut().try_for_each(RoleProcess::check)
    }

    /// Injects one fault and waits until it has run its course.
    pub(crate) fn inject(&mut self, step: Step) -> Result<Injected> {
        self.check()?;
        match step.fault {
            Fault::Kill => self.kill(step),
            Fault::Pause => self.pause(step),
            Fault::DatabaseRestart => self.server(step, Servers::restart_database),
            Fault::DatabaseCrash => self.server(step, Servers::crash_database),
            Fault::BrokerRestart => self.server(step, Servers::restart_broker),
            Fault::BrokerCrash => self.server(step, Servers::crash_broker),
            Fault::Alarm => self.alarm(step),
            Fault::Unroutable => self.unroutable(step),
            Fault::Overflow => self.overflow(step),
        }
    }

    /// Lets the relays drain, and returns what all relays of the run said of themselves.
    pub(crate) fn close(mut self) -> Result<(Servers, Broker, Vec<RelayTally>)> {
        for mut relay in std::mem::take(&mut self.relays) {
            relay.shut_down(DRAIN_LIMIT)?;
            self.ended.push(relay.tally());
        }
        Ok((self.servers, self.broker, self.ended))
    }

    fn kill(&mut self, step: Step) -> Result<Injected> {
        let holding = self.loaded(step.victim)?;
        let begun = Instant::now();
        let begun_at_ms = now_ms();
        self.relays[step.victim].kill()?;
        let taken_over = self.taken_over(&holding, begun)?;
        let fresh = self.start_relay()?;
        let killed = std::mem::replace(&mut self.relays[step.victim], fresh);
        self.ended.push(killed.tally());
        Ok(relay_hit(step, killed.name(), begun_at_ms, holding, taken_over))
    }

    fn pause(&mut self, step: Step) -> Result<Injected> {
        let holding = self.loaded(step.victim)?;
        let begun = Instant::now();
        let begun_at_ms = now_ms();
        self.relays[step.victim].signal(Signal::STOP)?;
        let taken_over = self.taken_over(&holding, begun)?;
        thread::sleep((self.surroundings.lease + PAUSE_PAST_LEASE).saturating_sub(begun.elapsed()));
        self.relays[step.victim].signal(Signal::CONT)?;
        Ok(relay_hit(step, self.relays[step.victim].name(), begun_at_ms, holding, taken_over))
    }

    fn server(&mut self, step: Step, fault: impl FnOnce(&mut Servers) -> Result<()>) -> Result<Injected> {
        self.burst()?;
        let begun_at_ms = now_ms();
        fault(&mut self.servers)?;
        Ok(Injected::of_server(step, begun_at_ms, now_ms()))
    }

    /// Waits until a relay owns shards, commits a burst, and returns what the relay holds.
    fn loaded(&mut self, relay: usize) -> Result<Holding> {
        let holding = deadline::wait("the victim owns shards", START_LIMIT, || {
            self.check()?;
            let name = self.relays[relay].name();
            let holding = self.observe(async |conn| leases::holding(conn, name).await)?;
            Ok((!holding.shards.is_empty()).then_some(holding))
        })?;
        self.burst()?;
        Ok(holding)
    }

    /// Commits a burst and returns when the relays are in the middle of it, so that their windows are full.
    fn burst(&mut self) -> Result<()> {
        let (keys, size) = (self.surroundings.keys.clone(), self.surroundings.burst);
        let committed = self.observe(async |conn| {
            let committed = writers::burst(conn, &keys, size).await?;
            let since = Instant::now();
            while burst_left(conn).await? == committed && since.elapsed() < BURST_LIMIT {}
            Ok(committed)
        })?;
        self.pace.add(committed);
        Ok(())
    }

    fn taken_over(&self, holding: &Holding, since: Instant) -> Result<Option<Duration>> {
        self.observe(async |conn| leases::taken_over(conn, holding, since, TAKE_OVER_LIMIT).await)
    }

    /// Does something with a fresh connection to the database.
    fn observe<T>(&self, look: impl AsyncFnOnce(&mut dyn Connection) -> Result<T>) -> Result<T> {
        self.runtime.block_on(async {
            let mut conn = database::connect(&self.surroundings.database).await?;
            look(conn.as_mut()).await
        })
    }

    fn start_relay(&mut self) -> Result<RoleProcess> {
        self.started += 1;
        self.surroundings.start_relay(&format!("relay-{}", self.started))
    }
}

impl Injected {
    fn of_server(step: Step, begun_at_ms: i64, possible_at_ms: i64) -> Self {
        let (victim, shards, taken_over) = (None, BTreeSet::new(), None);
        let (health, wrong) = (None, Vec::new());
        Self { step, victim, begun_at_ms, possible_at_ms, shards, taken_over, health, wrong }
    }
}

fn relay_hit(step: Step, name: &str, begun_at_ms: i64, holding: Holding, taken_over: Option<Duration>) -> Injected {
    let (victim, shards) = (Some(name.to_owned()), holding.shards);
    Injected { victim, shards, taken_over, ..Injected::of_server(step, begun_at_ms, begun_at_ms) }
}

/// Events of bursts that are not settled yet.
async fn burst_left(conn: &mut dyn Connection) -> Result<u64> {
    Ok(conn.pending(AGGREGATE_TYPE, BURST).await? + conn.pending(STRAY_TYPE, BURST).await?)
}

/// The clock that the broker stamps records with: both run on this machine.
fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
