//! Messages that the database keeps: held ones and dead letters.

use diesel::sql_types::{Array, BigInt, Binary, Bool, Integer, Nullable, Text, Timestamptz};
use outbox_core::inbox::{Aside, Fate, InboxDeadReason};
use outbox_core::ports::{StorageError, StorageErrorKind};

use super::{PostgresInboxTransaction, parking};
use crate::inbox::InboxTables;
use crate::inbox::shared::{Status, micros_of, shortened};
use crate::postgres::row::Micros;
use crate::sql::{Bind, Sql, bind};

const WHAT: &str = "put messages aside";

pub(super) struct Statements {
    numbers: String,
    mark: String,
    hold: String,
    bury: String,
}

impl Statements {
    pub(super) fn new(tables: &InboxTables) -> Self {
        Self {
            numbers: tables.render(NUMBERS),
            mark: tables.render(MARK),
            hold: tables.render(HOLD),
            bury: tables.render(BURY),
        }
    }
}

const NUMBERS: &str = "SELECT nextval('{{held_seq}}'), pg_current_xact_id()::text FROM generate_series(1, $1)";

const MARK: &str = "UPDATE {{messages}} AS m SET status = e.status, processed_at = clock_timestamp() \
    FROM unnest($2::text[], $3::text[], $4::text[]) AS e(source, id, status) \
    WHERE m.consumer = $1 AND m.source = e.source AND m.id = e.id RETURNING 1";

const HOLD: &str = "INSERT INTO {{held}} (consumer, seq, source, id, ordering_key, stream, partition, position, record_key, \
    headers, payload, sent_at, redelivered, attempts, error, status, due_at) \
    SELECT $1, a.seq, a.source, a.id, a.ordering_key, a.stream, a.partition, a.position, a.record_key, a.headers, a.payload, \
    a.sent_at, a.redelivered, a.attempts, a.error, a.status, clock_timestamp() + a.delay * interval '1 microsecond' \
    FROM unnest($2::bigint[], $3::text[], $4::text[], $5::bytea[], $6::text[], $7::integer[], $8::bigint[], $9::bytea[], \
    $10::text[], $11::bytea[], $12::timestamptz[], $13::boolean[], $14::integer[], $15::text[], $16::text[], $17::bigint[]) \
    AS a(seq, source, id, ordering_key, stream, partition, position, record_key, headers, payload, sent_at, redelivered, \
    attempts, error, status, delay) RETURNING 1";

const BURY: &str = "INSERT INTO {{dead_letters}} (consumer, seq, source, id, ordering_key, stream, partition, position, \
    record_key, headers, payload, sent_at, redelivered, attempts, error, reason, parks_key) \
    SELECT $1, a.seq, a.source, a.id, a.ordering_key, a.stream, a.partition, a.position, a.record_key, a.headers, a.payload, \
    a.sent_at, a.redelivered, a.attempts, a.error, a.reason, a.parks_key \
    FROM unnest($2::bigint[], $3::text[], $4::text[], $5::bytea[], $6::text[], $7::integer[], $8::bigint[], $9::bytea[], \
    $10::text[], $11::bytea[], $12::timestamptz[], $13::boolean[], $14::integer[], $15::text[], $16::text[], $17::boolean[]) \
    AS a(seq, source, id, ordering_key, stream, partition, position, record_key, headers, payload, sent_at, redelivered, \
    attempts, error, reason, parks_key) RETURNING 1";

pub(super) async fn put_aside(
    transaction: &mut PostgresInboxTransaction,
    messages: &[Aside],
) -> Result<(), StorageError> {
    if messages.is_empty() {
        return Ok(());
    }
    parking::park(transaction, messages).await?;
    let seqs = numbers(transaction, messages.len()).await?;
    let (mut held, mut dead) = (Columns::default(), Columns::default());
    let (mut states, mut delays, mut reasons, mut parks) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for (&seq, aside) in seqs.iter().zip(messages) {
        let mut hold = |state: &'static str, attempts: u32, delay: i64, error: Option<String>| {
            held.push(seq, aside, attempts, error);
            states.push(state);
            delays.push(delay);
        };
        match &aside.fate {
            Fate::Received => hold("received", 0, 0, None),
            Fate::Waiting => hold("waiting", 0, 0, None),
            Fate::Failed { attempts, delay, error } => {
                hold("failed", *attempts, micros_of(*delay), Some(shortened(error)));
            }
            Fate::Dead { attempts, reason, error, park_key } => {
                dead.push(seq, aside, *attempts, Some(shortened(error)));
                reasons.push(InboxDeadReason::as_str(*reason));
                parks.push(*park_key && aside.key.is_some());
            }
        }
    }
    mark(transaction, messages).await?;
    let statements = transaction.statements.clone();
    if !held.seqs.is_empty() {
        transaction.expected.held.extend(&held.seqs);
        let binds = held.binds(&transaction.consumer, bind::<Array<Text>, _>(states), bind::<Array<BigInt>, _>(delays));
        let hold = Sql::<_, Integer>::new(&statements.asides.hold, binds);
        let _: Vec<i32> = transaction.session.load(WHAT, hold).await?;
    }
    if !dead.seqs.is_empty() {
        transaction.expected.dead.extend(&dead.seqs);
        let binds = dead.binds(&transaction.consumer, bind::<Array<Text>, _>(reasons), bind::<Array<Bool>, _>(parks));
        let bury = Sql::<_, Integer>::new(&statements.asides.bury, binds);
        let _: Vec<i32> = transaction.session.load(WHAT, bury).await?;
    }
    Ok(())
}

/// A number for each message, ascending.
async fn numbers(transaction: &mut PostgresInboxTransaction, count: usize) -> Result<Vec<i64>, StorageError> {
    let count = i32::try_from(count).map_err(|_| {
        let message = format!("cannot {WHAT}: {count} messages at once, the limit is {}", i32::MAX);
        StorageError::new(StorageErrorKind::Other, message)
    })?;
    let binds = (bind::<Integer, _>(count),);
    let numbers = Sql::<_, (BigInt, Nullable<Text>)>::new(&transaction.statements.asides.numbers, binds);
    let mut rows: Vec<(i64, Option<String>)> = transaction.session.load(WHAT, numbers).await?;
    rows.sort_unstable();
    let xid = rows.first().and_then(|(_, xid)| xid.clone());
    transaction.expected.saw(WHAT, xid)?;
    Ok(rows.into_iter().map(|(seq, _)| seq).collect())
}

/// Sets the dedup rows, which are this transaction's own.
async fn mark(transaction: &mut PostgresInboxTransaction, messages: &[Aside]) -> Result<(), StorageError> {
    let (mut sources, mut ids, mut states) = (Vec::new(), Vec::new(), Vec::new());
    for aside in messages {
        let Some(identity) = &aside.identity else { continue };
        let status = Status::of(&aside.fate);
        sources.push(identity.source());
        ids.push(identity.id());
        states.push(status.as_str());
        transaction.expected.messages.insert(identity.clone(), status);
    }
    if sources.is_empty() {
        return Ok(());
    }
    let consumer = bind::<Text, _>(transaction.consumer.as_str());
    let (sources, ids) = (bind::<Array<Text>, _>(sources), bind::<Array<Text>, _>(ids));
    let binds = (consumer, sources, ids, bind::<Array<Text>, _>(states));
    let mark = Sql::<_, Integer>::new(&transaction.statements.asides.mark, binds);
    let _: Vec<i32> = transaction.session.load(WHAT, mark).await?;
    Ok(())
}

/// What held messages and dead letters have in common, a vector for each column.
#[derive(Default)]
struct Columns<'m> {
    seqs: Vec<i64>,
    sources: Vec<Option<&'m str>>,
    ids: Vec<Option<&'m str>>,
    ordering_keys: Vec<Option<&'m [u8]>>,
    streams: Vec<&'m str>,
    partitions: Vec<i32>,
    positions: Vec<i64>,
    record_keys: Vec<Option<&'m [u8]>>,
    headers: Vec<String>,
    payloads: Vec<Option<&'m [u8]>>,
    sent_at: Vec<Option<Micros>>,
    redelivered: Vec<bool>,
    attempts: Vec<i32>,
    errors: Vec<Option<String>>,
}

type Bound<T, V> = Bind<Array<T>, Vec<V>>;

/// The binds of a statement that inserts [`Columns`] and two more.
type ColumnBinds<'m, A, B> = (
    Bind<Text, &'m str>,
    Bound<BigInt, i64>,
    Bound<Nullable<Text>, Option<&'m str>>,
    Bound<Nullable<Text>, Option<&'m str>>,
    Bound<Nullable<Binary>, Option<&'m [u8]>>,
    Bound<Text, &'m str>,
    Bound<Integer, i32>,
    Bound<BigInt, i64>,
    Bound<Nullable<Binary>, Option<&'m [u8]>>,
    Bound<Text, String>,
    Bound<Nullable<Binary>, Option<&'m [u8]>>,
    Bound<Nullable<Timestamptz>, Option<Micros>>,
    Bound<Bool, bool>,
    Bound<Integer, i32>,
    Bound<Nullable<Text>, Option<String>>,
    A,
    B,
);

impl<'m> Columns<'m> {
    fn push(&mut self, seq: i64, aside: &'m Aside, attempts: u32, error: Option<String>) {
        let Aside { identity, key, incoming, .. } = aside;
        self.seqs.push(seq);
        self.sources.push(identity.as_ref().map(|identity| identity.source()));
        self.ids.push(identity.as_ref().map(|identity| identity.id()));
        self.ordering_keys.push(key.as_ref().map(|key| key.as_bytes()));
        self.streams.push(&incoming.partition.stream);
        self.partitions.push(incoming.partition.number);
        self.positions.push(incoming.position);
        self.record_keys.push(incoming.key.as_ref().map(AsRef::as_ref));
        self.headers.push(incoming.headers.to_json());
        self.payloads.push(incoming.payload.as_ref().map(AsRef::as_ref));
        self.sent_at.push(incoming.timestamp.and_then(Micros::of));
        self.redelivered.push(incoming.redelivered);
        self.attempts.push(i32::try_from(attempts).unwrap_or(i32::MAX));
        self.errors.push(error);
    }

    fn binds<A, B>(self, consumer: &'m outbox_core::inbox::Consumer, a: A, b: B) -> ColumnBinds<'m, A, B> {
        (
            bind(consumer.as_str()),
            bind(self.seqs),
            bind(self.sources),
            bind(self.ids),
            bind(self.ordering_keys),
            bind(self.streams),
            bind(self.partitions),
            bind(self.positions),
            bind(self.record_keys),
            bind(self.headers),
            bind(self.payloads),
            bind(self.sent_at),
            bind(self.redelivered),
            bind(self.attempts),
            bind(self.errors),
            a,
            b,
        )
    }
}
