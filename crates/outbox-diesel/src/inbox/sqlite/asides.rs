//! Messages that the database keeps: held ones and dead letters.

use diesel::result::QueryResult;
use diesel::sql_types::{BigInt, Binary, Bool, Integer, Nullable, Text};
use diesel::{RunQueryDsl, SqliteConnection};
use outbox_core::inbox::{Aside, Consumer, Fate};
use outbox_core::ports::StorageError;

use super::SqliteInboxTransaction;
use super::expected::Expected;
use super::sql::render;
use super::transaction;
use crate::append::Opaque;
use crate::inbox::InboxTables;
use crate::inbox::shared::{Status, micros_of, parks, shortened};
use crate::sql::{Sql, bind};
use crate::sqlite::append_rows::micros;

const WHAT: &str = "put messages aside";

pub(super) struct Statements {
    numbers: String,
    hold: String,
    bury: String,
}

impl Statements {
    pub(super) fn new(tables: &InboxTables) -> Self {
        Self { numbers: render(tables, NUMBERS), hold: render(tables, HOLD), bury: render(tables, BURY) }
    }
}

const NUMBERS: &str = "UPDATE {{held_seq}} SET last = last + ?1 RETURNING last";

const HOLD: &str = "INSERT INTO {{held}} (consumer, seq, source, id, ordering_key, stream, partition, position, record_key, \
    headers, payload, sent_at, redelivered, attempts, error, status, due_at) \
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, {{now}} + ?17)";

const BURY: &str = "INSERT INTO {{dead_letters}} (consumer, seq, source, id, ordering_key, stream, partition, position, \
    record_key, headers, payload, sent_at, redelivered, attempts, error, reason, parks_key, died_at) \
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, {{now}})";

pub(super) async fn put_aside(
    transaction: &mut SqliteInboxTransaction,
    messages: &[Aside],
) -> Result<(), StorageError> {
    if messages.is_empty() {
        return Ok(());
    }
    let (statements, consumer) = (transaction.statements.clone(), transaction.consumer.clone());
    let messages = messages.to_vec();
    let work = move |sqlite: &mut SqliteConnection| {
        let count = i64::try_from(messages.len()).unwrap_or(i64::MAX);
        let numbers = Sql::<_, BigInt>::new(&statements.asides.numbers, (bind::<BigInt, _>(count),));
        let last: i64 = numbers.get_result(sqlite)?;
        let mut expected = Expected::default();
        for (seq, aside) in (last - count + 1..).zip(&messages) {
            keep(sqlite, &statements, &consumer, seq, aside, &mut expected)?;
        }
        Ok(expected)
    };
    let done = transaction.session.run(WHAT, work).await?;
    let expected = &mut transaction.expected;
    expected.messages.extend(done.messages);
    expected.held.extend(done.held);
    expected.dead.extend(done.dead);
    expected.parked.extend(done.parked);
    Ok(())
}

/// Parks the key, marks the dedup row, and writes the message under its number.
fn keep(
    sqlite: &mut SqliteConnection,
    statements: &transaction::Statements,
    consumer: &Consumer,
    seq: i64,
    aside: &Aside,
    expected: &mut Expected,
) -> QueryResult<()> {
    if let (Some(key), Some(by)) = (&aside.key, parks(&aside.fate)) {
        statements.common.park(sqlite, consumer, key.as_bytes(), by)?;
        expected.parked.insert(key.clone());
    }
    let status = Status::of(&aside.fate);
    if let Some(identity) = &aside.identity {
        statements.common.set_message(sqlite, consumer, identity.source(), identity.id(), status)?;
        expected.messages.insert(identity.clone(), status);
    }
    match &aside.fate {
        Fate::Received => hold(sqlite, statements, consumer, seq, aside, ("received", 0, 0, None))?,
        Fate::Waiting => hold(sqlite, statements, consumer, seq, aside, ("waiting", 0, 0, None))?,
        Fate::Failed { attempts, delay, error } => {
            let state = ("failed", *attempts, micros_of(*delay), Some(shortened(error)));
            hold(sqlite, statements, consumer, seq, aside, state)?;
        }
        Fate::Dead { attempts, reason, error, park_key } => {
            let end = (*attempts, shortened(error), reason.as_str(), *park_key && aside.key.is_some());
            bury(sqlite, statements, consumer, seq, aside, end)?;
        }
    }
    if status == Status::Dead {
        expected.dead.push(seq)
    } else {
        expected.held.push(seq)
    }
    Ok(())
}

/// The binds of the message, then four of its own.
macro_rules! with_message {
    ($consumer:expr, $seq:expr, $aside:expr, $($own:expr),+) => {{
        let Aside { identity, key, incoming, .. } = $aside;
        (
            bind::<Text, _>($consumer.as_str()),
            bind::<BigInt, _>($seq),
            bind::<Nullable<Text>, _>(identity.as_ref().map(|identity| identity.source())),
            bind::<Nullable<Text>, _>(identity.as_ref().map(|identity| identity.id())),
            bind::<Nullable<Binary>, _>(key.as_ref().map(|key| key.as_bytes())),
            bind::<Text, _>(&*incoming.partition.stream),
            bind::<Integer, _>(incoming.partition.number),
            bind::<BigInt, _>(incoming.position),
            bind::<Nullable<Binary>, _>(incoming.key.as_ref().map(AsRef::<[u8]>::as_ref)),
            bind::<Text, _>(incoming.headers.to_json()),
            bind::<Nullable<Binary>, _>(incoming.payload.as_ref().map(|payload| Opaque(payload.as_ref()))),
            bind::<Nullable<BigInt>, _>(incoming.timestamp.map(micros)),
            bind::<Bool, _>(incoming.redelivered),
            $($own),+
        )
    }};
}

fn hold(
    sqlite: &mut SqliteConnection,
    statements: &transaction::Statements,
    consumer: &Consumer,
    seq: i64,
    aside: &Aside,
    (status, attempts, delay, error): (&str, u32, i64, Option<String>),
) -> QueryResult<()> {
    let attempts = bind::<Integer, _>(i32::try_from(attempts).unwrap_or(i32::MAX));
    let (error, status) = (bind::<Nullable<Text>, _>(error), bind::<Text, _>(status));
    let binds = with_message!(consumer, seq, aside, attempts, error, status, bind::<BigInt, _>(delay));
    Sql::<_>::new(&statements.asides.hold, binds).execute(sqlite).map(drop)
}

fn bury(
    sqlite: &mut SqliteConnection,
    statements: &transaction::Statements,
    consumer: &Consumer,
    seq: i64,
    aside: &Aside,
    (attempts, error, reason, parks_key): (u32, String, &str, bool),
) -> QueryResult<()> {
    let attempts = bind::<Integer, _>(i32::try_from(attempts).unwrap_or(i32::MAX));
    let (error, reason) = (bind::<Text, _>(error), bind::<Text, _>(reason));
    let binds = with_message!(consumer, seq, aside, attempts, error, reason, bind::<Bool, _>(parks_key));
    Sql::<_>::new(&statements.asides.bury, binds).execute(sqlite).map(drop)
}
