use std::{
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use tokio::runtime::Runtime;

use super::{
    database::{self, Finding},
    fleet::Orders,
    options::{InboxOptions, Scenario},
    plan::plan,
    producer, report,
    stage::{Injected, Stage},
    storm::{Storm, rage},
    stream::Stream,
    tally::ConsumerTally,
};
use crate::{logs, pace::Pace, servers::Servers};

/// About how long a fault and the wait before the next take: the time over which its share of the records is released.
const FAULT_TIME: Duration = Duration::from_secs(4);
/// The wait before a fault.
const QUIET_MS: std::ops::Range<u64> = 1_000..3_500;
const PRODUCER_LIMIT: Duration = Duration::from_secs(300);

/// Everything that a run showed.
pub(super) struct Outcome {
    pub(super) options: InboxOptions,
    pub(super) seed: u64,
    pub(super) began_at: Instant,
    pub(super) injected: Vec<Injected>,
    pub(super) storm: Option<Storm>,
    /// Records that the producer sent.
    pub(super) sent: usize,
    /// Messages that were to fail twice.
    pub(super) failing: usize,
    /// From the last record or fault to the last effect.
    pub(super) drained_after: Duration,
    pub(super) deadlocks: i64,
    pub(super) tally: ConsumerTally,
    pub(super) findings: Vec<Finding>,
}

/// A whole run; whether every promise was kept.
pub(crate) fn run(options: &InboxOptions) -> Result<bool> {
    xtask::interrupt::listen()?;
    let seed = options.seed.unwrap_or_else(|| rand::rng().random_range(1..1_000_000));
    let folder = logs::create()?;
    println!("{}, seed {seed}; logs of the consumers: {}", options.scenario.name(), folder.display());
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let outcome = measure(options, seed, &runtime, &folder)?;
    let passed = report::print(&outcome);
    if passed {
        logs::remove(&folder)?;
    }
    Ok(passed)
}

fn measure(options: &InboxOptions, seed: u64, runtime: &Runtime, folder: &Path) -> Result<Outcome> {
    let stream = Arc::new(Stream::new(usize::try_from(options.messages)?, options.scenario.failing(), seed));
    let servers = Servers::start(options.database, options.broker)?;
    let database = servers.database_url(runtime)?;
    runtime.block_on(async { database::connect(&database).await?.create(&stream.messages).await })?;
    let address = servers.broker_address().to_owned();
    producer::prepare(runtime, options.broker, &address)?;
    let deadlocks_before = deadlocks(runtime, &database)?;
    let orders = Orders {
        database: database.clone(),
        broker: address.clone(),
        deadlocks: options.scenario == Scenario::Deadlocks,
        durable: options.durable,
        folder: folder.to_owned(),
    };
    let mut stage = Stage::open(runtime, servers, options.broker, orders)?;
    let began_at = Instant::now();
    let sent = stream.order.len();
    let pace = Arc::new(Pace::new(sent as u64));
    let producing = producer::start(runtime, options.broker, &address, &stream, &pace);

    let (mut injected, mut storm) = (Vec::new(), None);
    if options.scenario == Scenario::Storm {
        let time = Duration::from_secs(options.seconds);
        pace.release(sent as u64, time);
        storm = Some(rage(&mut stage, time, seed)?);
    } else {
        injected = inject_all(&mut stage, &pace, options, sent as u64, seed)?;
    }
    pace.release(sent as u64, Duration::from_millis(1));
    let produced = runtime.block_on(async { tokio::time::timeout(PRODUCER_LIMIT, producing).await });
    produced.context("the producer did not get to its end in time")?.context("the producer panicked")??;
    let ended_at = Instant::now();
    stage.drained(options.messages)?;
    let drained_after = ended_at.elapsed();
    let (servers, tally) = stage.close()?;

    let deadlocks = deadlocks(runtime, &database)? - deadlocks_before;
    let findings = runtime.block_on(async {
        let mut tables = database::connect(&database).await?;
        database::findings(tables.as_mut(), options.scenario == Scenario::Deadlocks).await
    })?;
    drop(servers);
    let failing = stream.messages.iter().filter(|message| message.body.failures > 0).count();
    let options = options.clone();
    Ok(Outcome { options, seed, began_at, injected, storm, sent, failing, drained_after, deadlocks, tally, findings })
}

/// Injects the faults one after the other, while the producer gets an equal share of the records for each.
fn inject_all(
    stage: &mut Stage<'_>,
    pace: &Pace,
    options: &InboxOptions,
    records: u64,
    seed: u64,
) -> Result<Vec<Injected>> {
    let mut rng = StdRng::seed_from_u64(seed);
    let plan = plan(options, seed);
    let mut injected = Vec::new();
    for (number, &fault) in plan.iter().enumerate() {
        pace.release(records * (number as u64 + 1) / (plan.len() as u64 + 1), FAULT_TIME);
        stage.quiet(Duration::from_millis(rng.random_range(QUIET_MS)))?;
        let name = fault.text(options.database, options.broker);
        println!("fault {:>2} of {}: {name} ({} records sent)", number + 1, plan.len(), pace.committed());
        injected.push(stage.inject(fault, &mut rng)?);
    }
    Ok(injected)
}

fn deadlocks(runtime: &Runtime, database: &str) -> Result<i64> {
    runtime.block_on(async { database::connect(database).await?.deadlocks().await })
}
