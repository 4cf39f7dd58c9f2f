use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use mysql_async::prelude::Queryable as _;
use mysql_async::{Conn, Statement};
use outbox::ports::{ReadLimits, ShardId, Storage as _};
use outbox::{MysqlStorage, RelayConfig};
use tokio::task::JoinSet;

use crate::bench::{Bench, progress};
use crate::relays::as_f64;
use crate::report::{Measure, Measurement, Target};
use crate::services::MysqlDatabase;
use crate::workload::EVENT_TYPE;

const PRODUCERS: u32 = 8;
/// Of all producers together when they are not as fast as they can.
const TRANSACTIONS_PER_SECOND: u32 = 400;
/// Half of the events have one of so many keys, the others one of their own.
const HOT_KEYS: u64 = 50;
/// Before it counts: tables and caches are cold.
const WARM_UP: Duration = Duration::from_secs(1);
/// Rows of one sweep, so that it comes round between two reads.
const SWEPT: usize = 500;

/// How fast producers are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Pace {
    Steady,
    Full,
}

/// What producers saw.
#[derive(Debug, Default)]
struct Seen {
    times: Vec<Duration>,
    /// Errors 1205 (lock wait time-out) and 1213 (deadlock).
    conflicts: u64,
}

/// (k) What a transaction with an event takes on MariaDB or MySQL beside a relay that reads, settles and sweeps without a pause.
pub(super) async fn inserts(bench: &Bench) -> Result<Measurement> {
    let title = format!("transactions of {PRODUCERS} producers on MariaDB beside a relay that never rests");
    let mut measurement = Measurement::new('k', title);
    let to = &mut measurement;
    for _ in 0..bench.options.rounds {
        for pace in [Pace::Steady, Pace::Full] {
            one_run(bench, to, pace, false).await?;
            one_run(bench, to, pace, true).await?;
        }
    }
    for pace in [Pace::Steady, Pace::Full] {
        let [alone, beside] = [pace.variant(false), pace.variant(true)];
        to.quotient(Measure::TransactionP99Millis, &beside, &alone, None);
        to.judge(Measure::LockConflicts, &beside, Target::AtMost(0.0));
    }
    Ok(measurement)
}

async fn one_run(bench: &Bench, to: &mut Measurement, pace: Pace, with_relay: bool) -> Result<()> {
    let database = MysqlDatabase::create(&bench.services.mysql()?).await?;
    let stop = Arc::new(AtomicBool::new(false));
    let storage = database.storage()?;
    let relay = with_relay.then(|| tokio::spawn(deliver(storage, stop.clone())));
    let time = Duration::from_secs(bench.options.seconds);
    let produced = produce(&database, pace, WARM_UP + time).await;
    stop.store(true, Relaxed);
    if let Some(relay) = relay {
        ensure!(relay.await?? > 0, "the relay delivered nothing");
    }
    let Seen { mut times, conflicts } = produced?;
    times.sort_unstable();
    let (p50, p99) = (millis(&times, 50), millis(&times, 99));
    let variant = &pace.variant(with_relay);
    to.sample(variant, Measure::TransactionsPerSecond, as_f64(times.len() as u64) / time.as_secs_f64());
    to.sample(variant, Measure::TransactionP50Millis, p50);
    to.sample(variant, Measure::TransactionP99Millis, p99);
    to.sample(variant, Measure::LockConflicts, as_f64(conflicts));
    progress(to, variant, &format!("p50 {p50:.2} ms, p99 {p99:.2} ms, {conflicts} lock conflicts"));
    database.remove().await
}

async fn produce(database: &MysqlDatabase, pace: Pace, time: Duration) -> Result<Seen> {
    let insert = format!(
        "INSERT INTO {} (aggregate_type, aggregate_id, event_type, payload) VALUES ('order', ?, '{EVENT_TYPE}', repeat('x', 300))",
        database.tables().messages()
    );
    let mut producers = JoinSet::new();
    for producer in 0..PRODUCERS {
        let mut conn = database.connect().await?;
        // so that a producer that waits for a lock also says so
        conn.query_drop("SET SESSION innodb_lock_wait_timeout = 1").await?;
        let insert = conn.prep(&insert).await?;
        producers.spawn(Producer { conn, insert, number: producer }.run(pace, time));
    }
    let mut all = Seen::default();
    while let Some(seen) = producers.join_next().await {
        let Seen { times, conflicts } = seen??;
        all.times.extend(times);
        all.conflicts += conflicts;
    }
    Ok(all)
}

struct Producer {
    conn: Conn,
    insert: Statement,
    number: u32,
}

impl Producer {
    async fn run(mut self, pace: Pace, time: Duration) -> Result<Seen> {
        let began = Instant::now();
        let interval = Duration::from_secs(1) * PRODUCERS / TRANSACTIONS_PER_SECOND;
        let mut due = began + interval * self.number / PRODUCERS;
        let mut seen = Seen::default();
        for transaction in 0_u64.. {
            if pace == Pace::Steady {
                tokio::time::sleep_until(due.into()).await;
                due += interval;
            }
            let start = Instant::now();
            if start.duration_since(began) >= time {
                break;
            }
            match self.commit(transaction).await {
                Ok(()) if start.duration_since(began) < WARM_UP => {}
                Ok(()) => seen.times.push(start.elapsed()),
                Err(mysql_async::Error::Server(error)) if [1205, 1213].contains(&error.code) => {
                    seen.conflicts += 1;
                    self.conn.query_drop("ROLLBACK").await?;
                }
                Err(error) => return Err(error.into()),
            }
        }
        self.conn.disconnect().await?;
        Ok(seen)
    }

    async fn commit(&mut self, transaction: u64) -> Result<(), mysql_async::Error> {
        self.conn.query_drop("START TRANSACTION").await?;
        self.conn.exec_drop(&self.insert, (format!("{}-{transaction}", self.number),)).await?;
        self.conn.exec_drop(&self.insert, ((transaction % HOT_KEYS).to_string(),)).await?;
        self.conn.query_drop("COMMIT").await
    }
}

/// A relay's statements one after the other, without a broker that it would wait for. Returns how many rows it removed.
async fn deliver(storage: MysqlStorage, stop: Arc<AtomicBool>) -> Result<usize> {
    let config = RelayConfig::default();
    let limits =
        ReadLimits { rows: config.batch_size, bytes: config.batch_bytes, max_message_bytes: config.max_message_bytes };
    let shards: Vec<_> = (0..storage.check().await?.shards).map(ShardId).collect();
    let mut reader = storage.reader().await?;
    reader.assign(&shards);
    let mut removed = 0;
    while !stop.load(Relaxed) {
        let batch = reader.read(&limits).await?;
        let positions: Vec<_> = batch.messages.iter().map(|message| message.position()).collect();
        storage.settler().settle(&positions).await?;
        removed += positions.len();
        reader.sweep(&ReadLimits { rows: SWEPT, ..limits }).await?;
    }
    Ok(removed)
}

impl Pace {
    fn variant(self, with_relay: bool) -> String {
        let pace = match self {
            Self::Steady => format!("{TRANSACTIONS_PER_SECOND} transactions/s"),
            Self::Full => "as many as can be".to_owned(),
        };
        format!("{pace}, {}", if with_relay { "beside a relay" } else { "alone" })
    }
}

fn millis(sorted: &[Duration], percent: usize) -> f64 {
    sorted
        .get((sorted.len() * percent / 100).min(sorted.len().saturating_sub(1)))
        .map_or(f64::NAN, |time| time.as_secs_f64() * 1_000.0)
}
