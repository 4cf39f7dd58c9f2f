use std::{
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use anyhow::Result;
use rand::{RngExt as _, SeedableRng, rngs::StdRng};
use tokio::runtime::Runtime;
use xtask::{deadline, interrupt};

use crate::{
    broker::Read,
    database, events,
    faults::{Injected, Stage},
    logs,
    options::{BrokerKind, RunOptions, Unroutable},
    pace::Pace,
    plan::{self, Step},
    report,
    servers::Servers,
    surroundings::{RelayTally, Surroundings},
    verify::{self, Findings},
    writers::{WriterTally, Writers},
};

const RELAYS: usize = 2;
/// Messages that a relay may have in flight, and so the most duplicates that a fault may make of it. Below the default, so that the
/// bound is a sharp one.
pub(crate) const WINDOW: usize = 500;
/// About how long a fault and the wait before the next take: the time over which its share of the events is released.
const FAULT_TIME: Duration = Duration::from_secs(6);
/// The wait before a fault.
const QUIET_MS: std::ops::Range<u64> = 500..2_500;
const WRITERS_LIMIT: Duration = Duration::from_secs(300);
const DRAIN_LIMIT: Duration = Duration::from_secs(180);
const READ_LIMIT: Duration = Duration::from_secs(180);

/// Everything that a run showed.
pub(crate) struct Outcome {
    pub(crate) options: RunOptions,
    pub(crate) seed: u64,
    pub(crate) began_at: Instant,
    pub(crate) injected: Vec<Injected>,
    pub(crate) writers: WriterTally,
    pub(crate) relays: Vec<RelayTally>,
    pub(crate) committed: usize,
    pub(crate) read: Read,
    pub(crate) shards: std::collections::HashMap<String, i16>,
    pub(crate) findings: Findings,
}

/// A whole run; whether every promise was kept.
pub(crate) fn run(options: &RunOptions) -> Result<bool> {
    interrupt::listen()?;
    let seed = options.seed.unwrap_or_else(|| rand::rng().random_range(1..1_000_000));
    let folder = logs::create()?;
    println!("seed {seed}; logs of the relays: {}", folder.display());
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let outcome = measure(options, seed, &runtime, &folder)?;
    let passed = report::print(&outcome)?;
    if passed {
        logs::remove(&folder)?;
    }
    Ok(passed)
}

fn measure(options: &RunOptions, seed: u64, runtime: &Runtime, folder: &std::path::Path) -> Result<Outcome> {
    let servers = Servers::start(options.database, options.broker)?;
    let database = servers.database_url(runtime)?;
    let strays = if options.broker == BrokerKind::Rabbitmq { events::STRAYS } else { 0 };
    let keys: Arc<[String]> = events::keys(strays).into();
    runtime.block_on(async { database::connect(&database).await?.create(&keys).await })?;
    let broker = servers.open_broker(runtime, options)?;
    let shards = runtime.block_on(database::shards(&database, &keys))?;
    let plan = plan::plan(options, RELAYS, seed);
    let surroundings = Surroundings {
        database: database.clone(),
        broker: servers.broker_address().to_owned(),
        unroutable: options.unroutable,
        lease: options.lease,
        max_in_flight: WINDOW,
        keys: keys.clone(),
        // Half of all events come in bursts right before the faults.
        burst: options.events / (plan.len() as u64 * 2),
        folder: folder.to_owned(),
    };
    let pace = Arc::new(Pace::new(options.events));
    let mut stage = Stage::open(runtime, (servers, broker), surroundings, RELAYS, pace.clone())?;
    let began_at = Instant::now();
    let writers = runtime.block_on(async { Writers::start(&database, &keys, &pace, seed) });
    let injected = inject_all(&mut stage, &pace, options, &plan, seed)?;
    pace.release(options.events, Duration::from_millis(1));
    let writers = runtime.block_on(writers.finish(WRITERS_LIMIT))?;
    drained(&mut stage, runtime, &database)?;
    let (servers, broker, relays) = stage.close()?;

    let (committed, dead) = runtime.block_on(async {
        let mut conn = database::connect(&database).await?;
        Ok::<_, anyhow::Error>((conn.committed().await?, conn.dead_letters().await?))
    })?;
    let read = broker.read_all(runtime, READ_LIMIT)?;
    drop(servers);
    let strays_die = strays > 0 && options.unroutable == Unroutable::Reject;
    let findings = verify::verify(&committed, &read.records, &dead, strays_die);
    Ok(Outcome {
        options: options.clone(),
        seed,
        began_at,
        injected,
        writers,
        relays,
        committed: committed.len(),
        read,
        shards,
        findings,
    })
}

/// Injects the faults one after the other, while the writers get an equal share of the events for each.
fn inject_all(
    stage: &mut Stage<'_>,
    pace: &Pace,
    options: &RunOptions,
    plan: &[Step],
    seed: u64,
) -> Result<Vec<Injected>> {
    let mut rng = StdRng::seed_from_u64(seed);
    let mut injected = Vec::new();
    for (number, &step) in plan.iter().enumerate() {
        let share = options.events * (number as u64 + 1) / (plan.len() as u64 + 1);
        pace.release(share, FAULT_TIME);
        quiet(stage, Duration::from_millis(rng.random_range(QUIET_MS)))?;
        let name = step.fault.text(options.database, options.broker);
        println!("fault {:>2} of {}: {name} ({} events committed)", number + 1, plan.len(), pace.committed());
        injected.push(stage.inject(step)?);
    }
    Ok(injected)
}

fn quiet(stage: &mut Stage<'_>, time: Duration) -> Result<()> {
    interrupt::check()?;
    thread::sleep(time);
    stage.check()
}

/// Waits until the outbox is empty.
fn drained(stage: &mut Stage<'_>, runtime: &Runtime, database: &str) -> Result<()> {
    deadline::wait("the outbox is empty", DRAIN_LIMIT, || {
        stage.check()?;
        let pending = runtime.block_on(async { database::connect(database).await?.pending_up_to(i64::MAX).await })?;
        Ok((pending == 0).then_some(()))
    })
}
