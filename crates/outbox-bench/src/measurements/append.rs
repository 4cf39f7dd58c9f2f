use std::time::{Duration, Instant};

use anyhow::Result;
use diesel::ExpressionMethods as _;
use diesel_async::{AsyncConnection as _, AsyncPgConnection, RunQueryDsl as _};
use futures_util::try_join;
use outbox::{AppendError, NewMessage, PostgresOutbox};
use tokio::task::JoinSet;

use crate::bench::{Bench, progress};
use crate::relays::as_f64;
use crate::report::{Measure, Measurement, Target};
use crate::services::{Outbox, Topic};
use crate::workload::EVENT_TYPE;

const WRITERS: u64 = 8;
const KEYS: i64 = 10_000;

diesel::table! {
    bench_orders (id) {
        id -> BigInt,
        total_cents -> BigInt,
        note -> Text,
    }
}

/// What a transaction does beside its business statement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Append {
    Nothing,
    /// The event after the business statement: one more round trip.
    After,
    /// The event with the business statement: both are on the way at once.
    Pipelined,
    /// As `After`, with NOTIFY.
    Notifying,
}

const ALL: [Append; 4] = [Append::Nothing, Append::After, Append::Pipelined, Append::Notifying];

/// (e) What appending an event costs a business transaction.
pub(super) async fn append(bench: &Bench, to: &mut Measurement) -> Result<()> {
    bench
        .client
        .batch_execute(
            "CREATE TABLE bench_orders (id bigserial PRIMARY KEY, total_cents bigint NOT NULL, note text NOT NULL)",
        )
        .await?;
    for _ in 0..bench.options.rounds {
        for append in ALL {
            let rate = one_run(bench, append).await?;
            to.sample(append.variant(), Measure::TransactionsPerSecond, rate);
            progress(to, append.variant(), &format!("{rate:.0} transactions/s"));
        }
    }
    let (rate, without) = (Measure::TransactionsPerSecond, Append::Nothing.variant());
    to.quotient(rate, Append::After.variant(), without, Some(Target::AtLeast(0.8)));
    to.quotient(rate, Append::Pipelined.variant(), without, Some(Target::AtLeast(0.8)));
    to.quotient(rate, Append::Notifying.variant(), without, None);
    Ok(())
}

async fn one_run(bench: &Bench, append: Append) -> Result<f64> {
    let (outbox, topic) = bench.place().await?;
    bench.client.batch_execute("TRUNCATE bench_orders; CHECKPOINT").await?;
    let mut connections = Vec::new();
    for _ in 0..WRITERS {
        connections.push(AsyncPgConnection::establish(outbox.url()).await?);
    }
    let start = Instant::now();
    let end = start + Duration::from_secs(bench.options.seconds);
    let mut tasks = JoinSet::new();
    for connection in connections {
        tasks.spawn(append.write(connection, append.appender(&outbox), topic.clone(), end));
    }
    let mut transactions = 0;
    while let Some(committed) = tasks.join_next().await {
        transactions += committed??;
    }
    let took = start.elapsed();
    bench.clear(outbox, topic).await?;
    Ok(as_f64(transactions) / took.as_secs_f64())
}

impl Append {
    fn variant(self) -> &'static str {
        match self {
            Self::Nothing => "without event",
            Self::After => "with event",
            Self::Pipelined => "with event, pipelined",
            Self::Notifying => "with event and NOTIFY",
        }
    }

    fn appender(self, outbox: &Outbox) -> PostgresOutbox {
        let appender = PostgresOutbox::new(outbox.tables().clone());
        if self == Self::Notifying { appender.with_notify() } else { appender }
    }

    /// Commits transactions until `end`. Returns how many.
    async fn write(
        self,
        mut conn: AsyncPgConnection,
        outbox: PostgresOutbox,
        topic: Topic,
        end: Instant,
    ) -> Result<u64> {
        let mut committed = 0;
        while Instant::now() < end {
            let order = (bench_orders::total_cents.eq(1_250), bench_orders::note.eq("a note of a usual length"));
            let business = diesel::insert_into(bench_orders::table).values(order);
            let key = i64::try_from(committed)? % KEYS;
            let event = NewMessage::new(topic.name(), EVENT_TYPE, vec![b'x'; 300]).aggregate_id(key.to_string());
            conn.transaction::<_, AppendError, _>(async |conn| {
                match self {
                    Self::Nothing => drop(business.execute(conn).await?),
                    Self::After | Self::Notifying => {
                        business.execute(conn).await?;
                        outbox.append(conn, &event).await?;
                    }
                    Self::Pipelined => {
                        let conn = &*conn;
                        let (mut first, mut second) = (conn, conn);
                        let business = async { Ok(business.execute(&mut first).await?) };
                        try_join!(business, outbox.append(&mut second, &event))?;
                    }
                }
                Ok(())
            })
            .await?;
            committed += 1;
        }
        Ok(committed)
    }
}
