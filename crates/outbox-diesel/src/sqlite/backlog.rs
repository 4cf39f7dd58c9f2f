use std::time::Duration;

use diesel::result::QueryResult;
use diesel::sql_types::{BigInt, Nullable};
use diesel::{RunQueryDsl, SqliteConnection};
use outbox_core::ports::Backlog;

use super::sql::render;
use crate::Tables;
use crate::sql::{Sql, bind};

/// Rows counted exactly; past it the span of `seq` is the estimate.
const COUNTED: i64 = 10_000;

/// Rows looked at from the bottom for the oldest one that does not wait, so that a bottom full of scheduled messages costs
/// milliseconds. Behind more of them than this the age is not known.
const LOOKED_AT: i64 = 100_000;

/// The statements that measure the backlog.
pub(super) struct BacklogStatements {
    pending: String,
    oldest: String,
}

impl BacklogStatements {
    pub(super) fn new(tables: &Tables) -> Self {
        let sql = |text| render(tables, text);
        Self {
            pending: sql("SELECT (SELECT count(*) FROM (SELECT 1 FROM {{messages}} LIMIT ?1 + 1)), \
                 coalesce((SELECT max(seq) FROM {{messages}}) - (SELECT min(seq) FROM {{messages}}) + 1, 0), \
                 (SELECT count(*) FROM (SELECT 1 FROM {{dead_letters}} LIMIT 10000))"),
            oldest: sql("SELECT {{now}} - (SELECT max(coalesce(wake_at, occurred_at), occurred_at) FROM \
                 (SELECT seq, wake_at, occurred_at FROM {{messages}} ORDER BY seq LIMIT ?1) \
                 WHERE wake_at IS NULL OR wake_at <= {{now}} ORDER BY seq LIMIT 1)"),
        }
    }
}

/// How much is pending, in the snapshot of the open transaction.
pub(super) fn measure(conn: &mut SqliteConnection, sql: &BacklogStatements) -> QueryResult<Backlog> {
    let (counted, span, dead_letters) =
        Sql::<_, (BigInt, BigInt, BigInt)>::new(&sql.pending, (bind::<BigInt, _>(COUNTED),))
            .get_result::<(i64, i64, i64)>(conn)?;
    let age = Sql::<_, Nullable<BigInt>>::new(&sql.oldest, (bind::<BigInt, _>(LOOKED_AT),))
        .get_result::<Option<i64>>(conn)?;
    let estimated = counted > COUNTED;
    Ok(Backlog {
        pending: unsigned(if estimated { span } else { counted }),
        estimated,
        oldest_age: age.map(|micros| Duration::from_micros(unsigned(micros))),
        dead_letters: unsigned(dead_letters),
    })
}

fn unsigned(value: i64) -> u64 {
    u64::try_from(value).unwrap_or(0)
}
