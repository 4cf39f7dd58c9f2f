use std::time::{Duration, Instant};

use anyhow::Result;
use diesel::dsl::Eq;
use diesel::pg::Pg;
use diesel::{ExpressionMethods as _, QueryDsl as _, QueryResult};
use diesel_async::{AsyncConnection as _, AsyncConnectionCore, AsyncPgConnection, RunQueryDsl as _};
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

/// Different enough that writers hardly ever wait for each other's stock.
const ITEMS: i64 = 10_000;

diesel::table! {
    bench_orders (id) {
        id -> BigInt,
        total_cents -> BigInt,
        note -> Text,
    }
}

diesel::table! {
    bench_lines (id) {
        id -> BigInt,
        order_id -> BigInt,
        item_id -> BigInt,
        quantity -> Integer,
    }
}

diesel::table! {
    bench_stock (item_id) {
        item_id -> BigInt,
        quantity -> BigInt,
    }
}

/// What a transaction does for its service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Business {
    /// One row is inserted: the least that a transaction can do.
    OneRow,
    /// An order, two lines, and the stock of the second one's item.
    Order,
}

/// What a transaction does beside its business.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Append {
    Nothing,
    /// The event after the last business statement: one more round trip.
    After,
    /// The event with the last business statement: both are on the way at once.
    Pipelined,
    /// As `After`, with NOTIFY.
    Notifying,
}

const ALL: [(Business, Append); 7] = [
    (Business::OneRow, Append::Nothing),
    (Business::OneRow, Append::After),
    (Business::OneRow, Append::Pipelined),
    (Business::OneRow, Append::Notifying),
    (Business::Order, Append::Nothing),
    (Business::Order, Append::After),
    (Business::Order, Append::Pipelined),
];

/// (e) What appending an event costs a business transaction.
pub(super) async fn append(bench: &Bench, to: &mut Measurement) -> Result<()> {
    bench
        .client
        .batch_execute(&format!(
            "CREATE TABLE bench_orders (id bigserial PRIMARY KEY, total_cents bigint NOT NULL, note text NOT NULL); \
             CREATE TABLE bench_lines (id bigserial PRIMARY KEY, order_id bigint NOT NULL REFERENCES bench_orders, \
             item_id bigint NOT NULL, quantity integer NOT NULL); CREATE INDEX ON bench_lines (order_id); \
             CREATE TABLE bench_stock (item_id bigint PRIMARY KEY, quantity bigint NOT NULL); \
             INSERT INTO bench_stock SELECT n, 1000000000 FROM generate_series(0, {}) AS n",
            ITEMS - 1
        ))
        .await?;
    for _ in 0..bench.options.rounds {
        for (business, append) in ALL {
            let rate = one_run(bench, business, append).await?;
            let variant = variant(business, append);
            to.sample(&variant, Measure::TransactionsPerSecond, rate);
            progress(to, &variant, &format!("{rate:.0} transactions/s"));
        }
    }
    for (business, append) in ALL.into_iter().filter(|&(_, append)| append != Append::Nothing) {
        let target = (append != Append::Notifying).then_some(Target::AtLeast(0.8));
        let (with, without) = (variant(business, append), variant(business, Append::Nothing));
        to.quotient(Measure::TransactionsPerSecond, &with, &without, target);
    }
    Ok(())
}

fn variant(business: Business, append: Append) -> String {
    format!("{}, {}", business.name(), append.name())
}

async fn one_run(bench: &Bench, business: Business, append: Append) -> Result<f64> {
    let (outbox, topic) = bench.place().await?;
    bench.client.batch_execute("VACUUM bench_stock").await?;
    bench.client.batch_execute("TRUNCATE bench_orders, bench_lines; CHECKPOINT").await?;
    let mut writers = Vec::new();
    for number in 0..WRITERS {
        let conn = AsyncPgConnection::establish(outbox.url()).await?;
        writers.push(Writer { number, conn, outbox: append.appender(&outbox), business, append });
    }
    let start = Instant::now();
    let end = start + Duration::from_secs(bench.options.seconds);
    let mut tasks = JoinSet::new();
    for writer in writers {
        tasks.spawn(writer.write(topic.clone(), end));
    }
    let mut transactions = 0;
    while let Some(committed) = tasks.join_next().await {
        transactions += committed??;
    }
    let took = start.elapsed();
    bench.clear(outbox, topic).await?;
    Ok(as_f64(transactions) / took.as_secs_f64())
}

impl Business {
    fn name(self) -> &'static str {
        match self {
            Self::OneRow => "one row",
            Self::Order => "order with two lines and stock",
        }
    }

    /// All statements but the last.
    async fn begin(self, conn: &mut AsyncPgConnection, turn: i64) -> QueryResult<()> {
        if self == Self::Order {
            let order = diesel::insert_into(bench_orders::table).values(Self::order());
            let id: i64 = order.returning(bench_orders::id).get_result(conn).await?;
            for item in [turn, turn + 1] {
                let line =
                    (bench_lines::order_id.eq(id), bench_lines::item_id.eq(item % ITEMS), bench_lines::quantity.eq(1));
                diesel::insert_into(bench_lines::table).values(line).execute(conn).await?;
            }
        }
        Ok(())
    }

    /// The last statement, which an append may go with.
    async fn finish<C>(self, conn: &mut C, turn: i64) -> QueryResult<usize>
    where
        C: AsyncConnectionCore<Backend = Pg>,
    {
        match self {
            Self::OneRow => diesel::insert_into(bench_orders::table).values(Self::order()).execute(conn).await,
            Self::Order => {
                diesel::update(bench_stock::table.find(turn % ITEMS))
                    .set(bench_stock::quantity.eq(bench_stock::quantity - 1))
                    .execute(conn)
                    .await
            }
        }
    }

    fn order() -> (Eq<bench_orders::total_cents, i64>, Eq<bench_orders::note, &'static str>) {
        (bench_orders::total_cents.eq(1_250), bench_orders::note.eq("a note of a usual length"))
    }
}

impl Append {
    fn name(self) -> &'static str {
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
}

/// One connection that commits transactions.
struct Writer {
    number: u64,
    conn: AsyncPgConnection,
    outbox: PostgresOutbox,
    business: Business,
    append: Append,
}

impl Writer {
    /// Commits transactions until `end`. Returns how many.
    async fn write(self, topic: Topic, end: Instant) -> Result<u64> {
        let Self { number, mut conn, outbox, business, append } = self;
        let mut committed = 0;
        while Instant::now() < end {
            let turn = i64::try_from(committed * WRITERS + number)?;
            let key = (turn % KEYS).to_string();
            let event = NewMessage::new(topic.name(), EVENT_TYPE, vec![b'x'; 300]).aggregate_id(key);
            conn.transaction::<_, AppendError, _>(async |conn| {
                business.begin(conn, turn).await?;
                match append {
                    Append::Nothing => drop(business.finish(conn, turn).await?),
                    Append::After | Append::Notifying => {
                        business.finish(conn, turn).await?;
                        outbox.append(conn, &event).await?;
                    }
                    Append::Pipelined => {
                        let conn = &*conn;
                        let (mut first, mut second) = (conn, conn);
                        let last = async { Ok(business.finish(&mut first, turn).await?) };
                        try_join!(last, outbox.append(&mut second, &event))?;
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
