use std::{
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, anyhow};
use console::style;
use outbox::{Relay, RelayConfig, RelayReport};
use tempfile::TempDir;
use tokio::{sync::oneshot, task::JoinHandle};

use super::{
    Plan,
    broker::{self, Arrival, Broker, Consumer},
    display::Display,
    shop::{self, Shop},
    summary::{Latency, Summary},
    tally::Tally,
    verify::verify,
    writers::{self, Commit},
};
use crate::{database::Database, interrupt::Interrupt, output, values::shortened};

/// After this long without a delivery the demo stops waiting and lets the verification speak.
const PATIENCE: Duration = Duration::from_secs(60);
const LOOK: Duration = Duration::from_millis(5);

/// Makes the services ready, runs the demo on them and cleans up, also when it failed.
pub(super) async fn run(plan: Plan) -> Result<bool> {
    let (database, folder) = database(&plan)?;
    let interrupt = Interrupt::listen(farewell(&plan, folder.as_ref()))?;
    let broker = broker::open(plan.broker.as_ref(), plan.amqp_ca_pem.as_deref(), &plan.prefix).await?;
    let result = match shop::open(&database, &plan.prefix).await {
        Ok(shop) => {
            greet(&plan, &database, &*broker);
            let result = deliver_and_verify(&plan, &shop, &*broker, interrupt).await;
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

fn greet(plan: &Plan, database: &Database, broker: &dyn Broker) {
    let line = |label: &str, text: String| {
        output::line(format!("  {}{}", style(format!("{label:<10}")).bold(), shortened(&text, 66)));
    };
    output::line("");
    line("database", database.to_string());
    line("broker", broker.describe());
    line("writers", format!("{}; 10 % of their transactions roll back on purpose", plan.work.writers));
    output::line("");
}

async fn deliver_and_verify(
    plan: &Plan,
    shop: &Arc<dyn Shop>,
    broker: &dyn Broker,
    interrupt: Interrupt,
) -> Result<bool> {
    let start = Instant::now();
    let tally = Arc::new(Tally::default());
    let consumer = broker.consumer(tally.clone()).await?;
    let config = RelayConfig { name: "demo".to_owned(), ..RelayConfig::default() };
    let relay = Relay::builder_from(shop.storage().await?, broker.transport()?).config(config).build()?;
    let handle = relay.handle();
    let mut relay = Running::start(relay);
    let display = Display::new(tally.clone(), handle.clone(), plan.work.events);
    let work = async {
        let commits = writers::run(shop.clone(), plan.work, handle, tally.clone(), interrupt).await?;
        wait_for_deliveries(&tally, &*consumer, &relay).await;
        anyhow::Ok(commits)
    };
    let worked = display.during(work).await;
    let stopped = relay.stop().await;
    let commits: Vec<Commit> = worked?;
    stopped?;
    let arrivals: Vec<Arrival> = consumer.finish().await?;
    let took = start.elapsed();
    let record = shop.record().await.context("cannot read the database's record")?;
    let summary = Summary {
        counts: tally.counts(),
        committed: record.len() as u64,
        verdict: verify(&record, arrivals.iter().map(|arrival| &arrival.event)),
        latency: Latency::of(&commits, &arrivals),
        took,
    };
    summary.print();
    Ok(summary.verdict.holds())
}

/// Waits until all committed events were delivered, or nothing moves any more.
async fn wait_for_deliveries(tally: &Tally, consumer: &dyn Consumer, relay: &Running) {
    let mut last = (tally.counts().delivered, Instant::now());
    loop {
        let counts = tally.counts();
        if counts.lag() == 0 || consumer.has_failed() || relay.has_ended() {
            return;
        }
        if counts.delivered != last.0 {
            last = (counts.delivered, Instant::now());
        } else if last.1.elapsed() > PATIENCE {
            return;
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// A relay in a task of its own.
struct Running {
    task: JoinHandle<Result<RelayReport, outbox::RelayError>>,
    stop: Option<oneshot::Sender<()>>,
}

impl Running {
    fn start(relay: Relay) -> Self {
        let (stop, stopped) = oneshot::channel::<()>();
        let shutdown = async {
            // A dropped sender stops the relay too.
            let _ = stopped.await;
        };
        Self { task: tokio::spawn(relay.run(shutdown)), stop: Some(stop) }
    }

    fn has_ended(&self) -> bool {
        self.task.is_finished()
    }

    /// Drains it.
    async fn stop(&mut self) -> Result<RelayReport> {
        drop(self.stop.take());
        let report = (&mut self.task).await.map_err(|_| anyhow!("the relay panicked"))??;
        if !report.drained {
            return Err(anyhow!("the relay could not finish what was in flight within its shutdown time-out"));
        }
        Ok(report)
    }
}
