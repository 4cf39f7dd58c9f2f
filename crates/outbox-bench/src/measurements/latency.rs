use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use diesel_async::{AsyncConnection, AsyncPgConnection};
use outbox::{NewMessage, PostgresOutbox, RelayHandle};
use tokio::task::JoinSet;

use super::timed::{Acknowledgements, Timed};
use crate::bench::{Bench, progress};
use crate::relays::{OurRelay, as_f64, wait_for};
use crate::report::{Measure, Measurement, Target};
use crate::services::{Outbox, Topic};
use crate::workload::EVENT_TYPE;

const WRITERS: u64 = 8;
const EVENTS_PER_SECOND: u64 = 200;
const KEYS: u64 = 1_000;
/// Events before the clock counts: connections are made and statements prepared.
const WARM_UP: u64 = WRITERS * 10;

/// How the relay learns of a commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum WakeUp {
    Polling,
    Nudge,
    Notify,
}

const ALL: [WakeUp; 3] = [WakeUp::Polling, WakeUp::Nudge, WakeUp::Notify];

/// (e) From the return of the commit to the broker's acknowledgement.
pub(super) async fn latency(bench: &Bench, to: &mut Measurement) -> Result<()> {
    for _ in 0..bench.options.rounds {
        for wake_up in ALL {
            let mut latencies = one_run(bench, wake_up).await?;
            latencies.sort_unstable();
            let (p50, p99) = (millis(&latencies, 50), millis(&latencies, 99));
            to.sample(wake_up.variant(), Measure::LatencyP50Millis, p50);
            to.sample(wake_up.variant(), Measure::LatencyP99Millis, p99);
            progress(to, wake_up.variant(), &format!("p50 {p50:.2} ms, p99 {p99:.2} ms"));
        }
    }
    for wake_up in [WakeUp::Nudge, WakeUp::Notify] {
        to.judge(Measure::LatencyP50Millis, wake_up.variant(), Target::AtMost(2.0));
    }
    Ok(())
}

async fn one_run(bench: &Bench, wake_up: WakeUp) -> Result<Vec<Duration>> {
    let (outbox, topic) = bench.place().await?;
    let acknowledgements = Acknowledgements::default();
    let transport = Timed::new(topic.transport()?, acknowledgements.clone());
    let storage = outbox.storage(wake_up == WakeUp::Notify)?;
    let relay = OurRelay::between(storage, transport, bench.config())?;

    let events = EVENTS_PER_SECOND * bench.options.seconds + WARM_UP;
    let writers = Writers {
        append: Arc::new(wake_up.appender(&outbox)),
        nudge: (wake_up == WakeUp::Nudge).then(|| relay.handle().clone()),
        acknowledgements: acknowledgements.clone(),
        topic: topic.clone(),
        url: outbox.url().to_owned(),
        next: Arc::default(),
        events,
    };
    let mut tasks = JoinSet::new();
    for _ in 0..WRITERS {
        tasks.spawn(writers.clone().write(Instant::now()));
    }
    while let Some(written) = tasks.join_next().await {
        written??;
    }
    wait_for(&[&relay], events, |_, _| {}).await?;
    relay.stop().await?;
    bench.clear(outbox, topic).await?;
    acknowledgements.latencies(usize::try_from(WARM_UP)?, usize::try_from(events)?)
}

#[derive(Clone)]
struct Writers {
    append: Arc<PostgresOutbox>,
    nudge: Option<RelayHandle>,
    acknowledgements: Acknowledgements,
    topic: Topic,
    url: String,
    next: Arc<AtomicU64>,
    events: u64,
}

impl Writers {
    /// Appends the next event when its time has come, until all are.
    async fn write(self, start: Instant) -> Result<()> {
        let mut connection = AsyncPgConnection::establish(&self.url).await?;
        loop {
            let number = self.next.fetch_add(1, Relaxed);
            if number >= self.events {
                return Ok(());
            }
            let due = start + Duration::from_micros(number * 1_000_000 / EVENTS_PER_SECOND);
            tokio::time::sleep_until(due.into()).await;
            let message = NewMessage::new(self.topic.name(), EVENT_TYPE, vec![b'x'; 300])
                .aggregate_id(format!("key-{}", number % KEYS));
            connection.transaction(async |conn| self.append.append(conn, &message).await).await?;
            self.acknowledgements.committed(message.id, Instant::now());
            if let Some(relay) = &self.nudge {
                relay.nudge();
            }
        }
    }
}

impl WakeUp {
    fn variant(self) -> &'static str {
        match self {
            Self::Polling => "polling",
            Self::Nudge => "nudge",
            Self::Notify => "NOTIFY",
        }
    }

    fn appender(self, outbox: &Outbox) -> PostgresOutbox {
        let appender = PostgresOutbox::new(outbox.tables().clone());
        if self == Self::Notify { appender.with_notify() } else { appender }
    }
}

impl Acknowledgements {
    /// Of all events but the first.
    fn latencies(&self, skip: usize, expected: usize) -> Result<Vec<Duration>> {
        let all = self.in_order_of_commit().context("an event was acknowledged that nobody committed")?;
        ensure!(all.len() == expected, "{expected} events were committed and {} were acknowledged", all.len());
        Ok(all[skip..].to_vec())
    }
}

fn millis(sorted: &[Duration], percent: usize) -> f64 {
    let index = (sorted.len() * percent / 100).min(sorted.len() - 1);
    as_f64(sorted[index].as_micros().try_into().unwrap_or(u64::MAX)) / 1_000.0
}
