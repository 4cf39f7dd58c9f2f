use std::{
    convert::Infallible,
    path::PathBuf,
    pin::pin,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use console::style;
use tempfile::TempDir;
use tokio::sync::oneshot;

use super::{
    Plan,
    broker::{self, Arrival, Broker, Consumer},
    chaos,
    consuming::Consuming,
    display::Display,
    relaying::Relaying,
    shop::{self, Auditor, Shop},
    summary::{Latency, Summary},
    tally::Tally,
    verify::verify,
    writers::{self, Commit},
};
use crate::{database::Database, interrupt::Interrupt, output, values::shortened};

/// After this long without a delivery or an effect the demo stops waiting and lets the verification speak.
const PATIENCE: Duration = Duration::from_secs(60);
const LOOK: Duration = Duration::from_millis(5);
/// Between two looks at the balances, at least, and in times of what a look takes: looking must not slow the demo down.
const AUDIT: Duration = Duration::from_millis(100);
const AUDIT_SHARE: u32 = 5;

/// Makes the services ready, runs the demo on them and cleans up, also when it failed.
pub(super) async fn run(plan: Plan) -> Result<bool> {
    let (database, folder) = database(&plan)?;
    let interrupt = Interrupt::listen(farewell(&plan, folder.as_ref()))?;
    let opened = broker::open(plan.broker.as_ref(), plan.amqp_ca_pem.as_deref(), &plan.prefix);
    let broker = named_when_slow("the broker", opened).await?;
    let result = match named_when_slow("the database", shop::open(&database, &plan.prefix)).await {
        Ok(shop) => {
            greet(&plan, &database, &*broker);
            let result = deliver_apply_and_verify(&plan, &shop, &*broker, interrupt).await;
            let removed = shop.remove().await.context("cannot remove the demo's tables");
            result.and_then(|held| removed.map(|()| held))
        }
        Err(error) => Err(error.context("cannot make the demo's tables")),
    };
    let removed = broker.remove().await.context("cannot remove what the demo made on the broker");
    drop(folder);
    result.and_then(|held| removed.map(|()| held))
}

/// The database, and the temporary folder that holds it when none was given.
fn database(plan: &Plan) -> Result<(Database, Option<TempDir>)> {
    if let Some(database) = &plan.database {
        return Ok((database.clone(), None));
    }
    let folder = tempfile::Builder::new().prefix("outbox-demo-").tempdir().context("cannot make a temporary folder")?;
    let file: PathBuf = folder.path().join("demo.db");
    Ok((Database::Sqlite(file), Some(folder)))
}

/// What is done at a second interrupt, where nothing else is cleaned up.
fn farewell(plan: &Plan, folder: Option<&TempDir>) -> impl FnOnce() + Send + 'static {
    let folder = folder.map(|folder| folder.path().to_owned());
    let real = plan.database.is_some() || plan.broker.is_some();
    let left = real.then(|| format!("left behind: what is named {}…", plan.prefix));
    move || {
        if let Some(folder) = folder {
            let _ = std::fs::remove_dir_all(folder);
        }
        if let Some(left) = left {
            output::line(left);
        }
    }
}

/// Waits, and says for what when that takes long.
async fn named_when_slow<T>(what: &str, waiting: impl Future<Output = T>) -> T {
    const LONG: Duration = Duration::from_secs(2);
    let mut waiting = pin!(waiting);
    if let Ok(done) = tokio::time::timeout(LONG, &mut waiting).await {
        return done;
    }
    output::line(format!("waiting for {what} to answer, up to 20 s"));
    waiting.await
}

fn greet(plan: &Plan, database: &Database, broker: &dyn Broker) {
    let line = |label: &str, text: String| {
        output::line(format!("  {}{}", style(format!("{label:<10}")).bold(), shortened(&text, 66)));
    };
    output::line("");
    line("database", database.to_string());
    line("broker", broker.describe());
    line("writers", format!("{}; 10 % of their transactions roll back on purpose", plan.work.writers));
    line("consumer", format!("inbox {}, makes balances in the database", broker.billing()));
    if plan.chaos {
        line("chaos", "relay and consumer are killed about once a second".to_owned());
    }
    output::line("");
}

async fn deliver_apply_and_verify(
    plan: &Plan,
    shop: &Arc<dyn Shop>,
    broker: &dyn Broker,
    interrupt: Interrupt,
) -> Result<bool> {
    let start = Instant::now();
    let tally = Arc::new(Tally::default());
    let consumer = broker.consumer(tally.clone()).await?;
    let consuming = Consuming::begin(shop, broker, plan.chaos).await?;
    let relaying = Relaying::begin(shop, broker, plan.chaos).await?;
    let mut auditor = shop.auditor().await?;
    let relay = relaying.current();
    let display = Display::new(tally.clone(), relay.clone(), consuming.current(), plan.work.events);
    let work = async {
        let writing = writers::run(shop.clone(), plan.work, relay, tally.clone(), interrupt);
        let (commits, relaying, consuming) = if plan.chaos {
            let (ended, over) = oneshot::channel::<()>();
            let writing = async {
                let commits = writing.await;
                drop(ended);
                commits
            };
            let (commits, survivors) = tokio::join!(writing, chaos::run(relaying, consuming, &tally, over));
            let (relaying, consuming) = survivors?;
            (commits?, relaying, consuming)
        } else {
            (writing.await?, relaying, consuming)
        };
        wait_for_effects(&tally, &*consumer, &relaying, &consuming).await;
        let (delivered, recognised) = tokio::join!(relaying.drain(), consuming.drain());
        delivered?;
        anyhow::Ok((commits, recognised?))
    };
    let worked = display.during(async {
        tokio::select! {
            worked = work => worked,
            Err(error) = follow(&mut *auditor, &tally) => Err(error),
        }
    });
    let (commits, recognised): (Vec<Commit>, u64) = worked.await?;
    let arrivals: Vec<Arrival> = consumer.finish().await?;
    let took = start.elapsed();
    let record = shop.record().await.context("cannot read the database's record")?;
    let accounts = shop.auditor().await?.accounts().await.context("cannot read the balances")?;
    let summary = Summary {
        counts: tally.counts(),
        kills: plan.chaos.then(|| tally.kills()),
        committed: record.len() as u64,
        verdict: verify(&record, arrivals.iter().map(|arrival| &arrival.event)),
        books: accounts.audit(),
        recognised,
        latency: Latency::of(&commits, &arrivals),
        took,
    };
    summary.print();
    Ok(summary.holds())
}

/// Keeps the tally of what is applied, as the balances have it.
async fn follow(auditor: &mut dyn Auditor, tally: &Tally) -> Result<Infallible> {
    loop {
        let asked = Instant::now();
        tally.set_applied(auditor.applied().await.context("cannot read the balances")?);
        tokio::time::sleep(AUDIT.max(asked.elapsed() * AUDIT_SHARE)).await;
    }
}

/// Waits until all committed events were delivered and applied, or nothing moves any more.
async fn wait_for_effects(tally: &Tally, consumer: &dyn Consumer, relaying: &Relaying<'_>, consuming: &Consuming<'_>) {
    let mut last = (tally.counts(), Instant::now());
    loop {
        let counts = tally.counts();
        if counts.lag() == 0 || consumer.has_failed() || relaying.has_ended() || consuming.has_ended() {
            return;
        }
        if counts != last.0 {
            last = (counts, Instant::now());
        } else if last.1.elapsed() > PATIENCE {
            return;
        }
        tokio::time::sleep(LOOK).await;
    }
}
