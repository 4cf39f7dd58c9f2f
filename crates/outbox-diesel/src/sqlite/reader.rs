use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use diesel::connection::DefaultLoadingMode;
use diesel::result::QueryResult;
use diesel::sql_types::{BigInt, Nullable};
use diesel::{OptionalExtension, RunQueryDsl, SqliteConnection};
use outbox_core::ports::{Batch, Lease, ReadLimits, Reader, ShardId, StorageError};

use super::piece::Piece;
use super::rows::{COLUMNS, Row, RowType};
use super::sql::render;
use super::worker::Worker;
use crate::Tables;
use crate::sql::{Bind, Sql, bind};

/// Reads the one shard past a floor: SQLite has one writer, so a message with a lower `seq` is never committed later.
pub(super) struct SqliteReader {
    worker: Worker,
    sql: Arc<Statements>,
    /// `None`: the shard is not assigned.
    place: Option<Place>,
}

/// How far the reader is.
#[derive(Debug, Clone, Copy, Default)]
struct Place {
    /// Every row up to here was seen.
    floor: i64,
    /// Rows that became due are returned in the order (`wake_at`, `seq`) past here.
    due: (i64, i64),
    /// Where the next piece of the sweep starts.
    sweep: i64,
}

struct Statements {
    meta: String,
    due: String,
    one: String,
    hot: String,
    sweep: String,
}

impl SqliteReader {
    pub(super) fn new(worker: Worker, tables: &Tables) -> Self {
        let sql = |text: &str| render(tables, &text.replace("{{columns}}", COLUMNS));
        // A parked key's messages stay where they are: unparking makes the relay rewind to the bottom.
        const NOT_PARKED: &str = "NOT EXISTS (SELECT 1 FROM {{parked_keys}} AS p \
             WHERE p.aggregate_type = m.aggregate_type AND p.aggregate_id = m.aggregate_id)";
        let statements = Statements {
            meta: sql("SELECT now, coalesce((SELECT max(seq) FROM {{messages}}), 0), \
                 (SELECT min(wake_at) FROM {{messages}} WHERE wake_at > now), \
                 (SELECT epoch FROM {{leases}} WHERE shard = 0), \
                 (SELECT control_version FROM {{leases}} WHERE shard = 0) FROM (SELECT {{now}} AS now)"),
            due: sql("SELECT wake_at, seq FROM {{messages}} WHERE wake_at <= ?1 AND (wake_at, seq) > (?2, ?3) \
                 ORDER BY wake_at, seq"),
            one: sql(&format!("SELECT {{{{columns}}}} FROM {{{{messages}}}} AS m WHERE m.seq = ?3 AND {NOT_PARKED}")),
            hot: sql(&format!(
                "SELECT {{{{columns}}}} FROM {{{{messages}}}} AS m WHERE m.seq > ?3 AND \
                 (m.wake_at IS NULL OR m.wake_at <= ?1 OR m.attempts > 0) AND {NOT_PARKED} ORDER BY m.seq LIMIT ?4"
            )),
            sweep: sql("SELECT {{columns}} FROM {{messages}} AS m WHERE m.seq > ?3 AND m.seq <= ?4 \
                 ORDER BY m.seq LIMIT ?5"),
        };
        Self { worker, sql: Arc::new(statements), place: None }
    }
}

#[async_trait]
impl Reader for SqliteReader {
    fn assign(&mut self, shards: &[ShardId]) {
        if !shards.contains(&ShardId(0)) {
            self.place = None;
        } else if self.place.is_none() {
            self.place = Some(Place::default());
        }
    }

    fn rewind(&mut self, shard: ShardId, from_seq: i64) {
        if let (ShardId(0), Some(place)) = (shard, &mut self.place) {
            place.floor = place.floor.min(from_seq.saturating_sub(1).max(0));
        }
    }

    async fn read(&mut self, limits: &ReadLimits) -> Result<Batch, StorageError> {
        let Some(mut place) = self.place else { return Ok(Batch::default()) };
        let (sql, limits) = (self.sql.clone(), *limits);
        let (batch, place) = self
            .worker
            .read("read messages", move |conn| read(conn, &sql, &mut place, &limits).map(|batch| (batch, place)))
            .await?;
        self.place = Some(place);
        Ok(batch)
    }

    async fn sweep(&mut self, limits: &ReadLimits) -> Result<Batch, StorageError> {
        let Some(mut place) = self.place else { return Ok(Batch::default()) };
        let (sql, limits) = (self.sql.clone(), *limits);
        let (batch, place) = self
            .worker
            .read("sweep for messages", move |conn| sweep(conn, &sql, &mut place, &limits).map(|batch| (batch, place)))
            .await?;
        self.place = Some(place);
        Ok(batch)
    }
}

/// One snapshot: what became due below the floor, then what is past it. When the limits cut the first, the second has to wait, or
/// it could overtake.
fn read(conn: &mut SqliteConnection, sql: &Statements, place: &mut Place, limits: &ReadLimits) -> QueryResult<Batch> {
    let meta = meta(conn, sql)?;
    let mut piece = Piece::new(*limits);
    let due_cut = read_due(conn, sql, place, &meta, &mut piece)?;
    let mut hot_cut = false;
    if !due_cut && place.floor < meta.highest {
        let rows = Sql::<_, RowType>::new(
            &sql.hot,
            (int(meta.now), piece.largest(), int(place.floor), piece.one_more_than_fits()),
        )
        .load_iter::<Row, DefaultLoadingMode>(conn)?;
        for row in rows {
            let row = row?;
            let seq = row.seq;
            hot_cut = !piece.take(row);
            if hot_cut {
                break;
            }
            place.floor = seq;
        }
        if !hot_cut {
            place.floor = meta.highest;
        }
    }
    Ok(Batch { leases: meta.leases(), ..piece.into_batch(due_cut || hot_cut, meta.next_due_in) })
}

/// Rows below the floor that became due since the last read. Those above it are passed over: the floor meets them.
/// Returns whether the limits cut it.
fn read_due(
    conn: &mut SqliteConnection,
    sql: &Statements,
    place: &mut Place,
    meta: &Meta,
    piece: &mut Piece,
) -> QueryResult<bool> {
    if meta.now < place.due.0 {
        place.due = (0, 0); // the clock was set back
    }
    let mut examined = place.due;
    let mut due = Vec::new();
    let mut cut = false;
    let keys = Sql::<_, (BigInt, BigInt)>::new(&sql.due, (int(meta.now), int(place.due.0), int(place.due.1)))
        .load_iter::<(i64, i64), DefaultLoadingMode>(conn)?;
    for key in keys {
        let key = key?;
        if key.1 <= place.floor {
            cut = piece.is_full(due.len());
            if cut {
                break;
            }
            due.push(key);
        }
        examined = key;
    }
    let mut returned = place.due;
    for key in due {
        let row = Sql::<_, RowType>::new(&sql.one, (int(meta.now), piece.largest(), int(key.1)))
            .get_result::<Row>(conn)
            .optional()?;
        if row.is_some_and(|row| !piece.take(row)) {
            cut = true;
            examined = returned;
            break;
        }
        returned = key;
    }
    // A failure marked in this very millisecond may get the same `wake_at` again.
    place.due = examined.min((meta.now - 1, i64::MAX));
    Ok(cut)
}

/// The next piece of everything below the floor.
fn sweep(conn: &mut SqliteConnection, sql: &Statements, place: &mut Place, limits: &ReadLimits) -> QueryResult<Batch> {
    let meta = meta(conn, sql)?;
    let mut piece = Piece::new(*limits);
    let rows = Sql::<_, RowType>::new(
        &sql.sweep,
        (int(meta.now), piece.largest(), int(place.sweep), int(place.floor), piece.one_more_than_fits()),
    )
    .load_iter::<Row, DefaultLoadingMode>(conn)?;
    let mut cut = false;
    for row in rows {
        let row = row?;
        let seq = row.seq;
        cut = !piece.take(row);
        if cut {
            break;
        }
        place.sweep = seq;
    }
    if !cut {
        place.sweep = 0;
    }
    Ok(Batch { leases: meta.leases(), ..piece.into_batch(cut, meta.next_due_in) })
}

struct Meta {
    now: i64,
    highest: i64,
    next_due_in: Option<Duration>,
    lease: Option<Lease>,
}

impl Meta {
    fn leases(&self) -> Vec<Lease> {
        self.lease.into_iter().collect()
    }
}

type MetaRow = (BigInt, BigInt, Nullable<BigInt>, Nullable<BigInt>, Nullable<BigInt>);

fn meta(conn: &mut SqliteConnection, sql: &Statements) -> QueryResult<Meta> {
    let (now, highest, next, epoch, control) =
        Sql::<_, MetaRow>::new(&sql.meta, ()).get_result::<(i64, i64, Option<i64>, Option<i64>, Option<i64>)>(conn)?;
    let next_due_in = next.map(|at| Duration::from_micros(u64::try_from(at - now).unwrap_or(0)));
    let lease = epoch.zip(control);
    let lease = lease.map(|(epoch, control_version)| Lease { shard: ShardId(0), epoch, control_version });
    Ok(Meta { now, highest, next_due_in, lease })
}

fn int(value: i64) -> Bind<BigInt, i64> {
    bind(value)
}

#[cfg(test)]
mod plans;
