use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use diesel::result::QueryResult;
use diesel::sql_types::{BigInt, Bool, Integer, Text};
use diesel::{OptionalExtension, RunQueryDsl, SqliteConnection};
use outbox_core::ports::{Heartbeat, Lease, Leases, RelayId, ShardId, StorageError};

use super::sql::{micros_of, render};
use super::worker::Worker;
use crate::Tables;
use crate::sql::{Sql, bind};

/// A relay that was not seen for this long is forgotten.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(60 * 60);

/// Ownership of the one shard.
pub(super) struct SqliteLeases {
    worker: Worker,
    sql: Arc<Statements>,
}

struct Statements {
    seen: String,
    forget: String,
    prolong: String,
    held: String,
    accepting: String,
    acquire: String,
    release: String,
    give_back_all: String,
    resign: String,
}

impl SqliteLeases {
    pub(super) fn new(worker: Worker, tables: &Tables) -> Self {
        let sql = |text| render(tables, text);
        let sql = Statements {
            seen: sql("INSERT INTO {{relays}} (owner, name, seen_at, accepting) VALUES (?1, ?2, {{now}}, ?3) \
                 ON CONFLICT (owner) DO UPDATE SET name = excluded.name, seen_at = excluded.seen_at, \
                 accepting = excluded.accepting"),
            forget: sql("DELETE FROM {{relays}} WHERE seen_at < {{now}} - ?1"),
            prolong: sql("UPDATE {{leases}} SET expires_at = {{now}} + ?2 WHERE owner = ?1 AND expires_at > {{now}}"),
            held: sql("SELECT epoch, control_version FROM {{leases}} WHERE owner = ?1 AND expires_at > {{now}}"),
            accepting: sql("SELECT count(*) FROM {{relays}} WHERE accepting AND seen_at > {{now}} - ?1"),
            acquire: sql("UPDATE {{leases}} SET owner = ?1, epoch = epoch + 1, expires_at = {{now}} + ?2 \
                 WHERE owner IS NULL OR expires_at <= {{now}}"),
            release: sql("UPDATE {{leases}} SET owner = NULL, expires_at = 0 WHERE owner = ?1 AND epoch = ?2"),
            give_back_all: sql("UPDATE {{leases}} SET owner = NULL, expires_at = 0 WHERE owner = ?1"),
            resign: sql("DELETE FROM {{relays}} WHERE owner = ?1"),
        };
        Self { worker, sql: Arc::new(sql) }
    }
}

#[async_trait]
impl Leases for SqliteLeases {
    async fn heartbeat(&self, relay: &RelayId, lease: Duration, accepting: bool) -> Result<Heartbeat, StorageError> {
        let (sql, relay) = (self.sql.clone(), relay.clone());
        let heartbeat = move |conn: &mut SqliteConnection| {
            let owner = relay.owner.to_string();
            Sql::<_>::new(
                &sql.seen,
                (bind::<Text, _>(owner.as_str()), bind::<Text, _>(relay.name), bind::<Bool, _>(accepting)),
            )
            .execute(conn)?;
            let forgotten_after = micros_of(FORGOTTEN_AFTER.max(lease * 10));
            Sql::<_>::new(&sql.forget, (bind::<BigInt, _>(forgotten_after),)).execute(conn)?;
            Sql::<_>::new(&sql.prolong, (bind::<Text, _>(owner.as_str()), bind::<BigInt, _>(micros_of(lease))))
                .execute(conn)?;
            let accepting_relays = Sql::<_, BigInt>::new(&sql.accepting, (bind::<BigInt, _>(micros_of(lease)),))
                .get_result::<i64>(conn)?;
            Ok(Heartbeat {
                held: held(conn, &sql.held, &owner)?.into_iter().collect(),
                accepting_relays: usize::try_from(accepting_relays).unwrap_or(0),
            })
        };
        self.worker.write("renew the lease", heartbeat).await
    }

    async fn acquire(&self, relay: &RelayId, lease: Duration, limit: usize) -> Result<Vec<Lease>, StorageError> {
        if limit == 0 {
            return Ok(Vec::new());
        }
        let (sql, owner) = (self.sql.clone(), relay.owner.to_string());
        let acquire = move |conn: &mut SqliteConnection| {
            let taken =
                Sql::<_>::new(&sql.acquire, (bind::<Text, _>(owner.as_str()), bind::<BigInt, _>(micros_of(lease))))
                    .execute(conn)?;
            if taken == 0 { Ok(Vec::new()) } else { Ok(held(conn, &sql.held, &owner)?.into_iter().collect()) }
        };
        self.worker.write("take a lease", acquire).await
    }

    async fn release(&self, relay: &RelayId, leases: &[Lease]) -> Result<(), StorageError> {
        let Some(lease) = leases.iter().find(|lease| lease.shard == ShardId(0)).copied() else { return Ok(()) };
        let (sql, owner) = (self.sql.clone(), relay.owner.to_string());
        self.worker
            .run("give the lease back", move |conn| {
                Sql::<_>::new(&sql.release, (bind::<Text, _>(owner), bind::<BigInt, _>(lease.epoch)))
                    .execute(conn)
                    .map(drop)
            })
            .await
    }

    async fn resign(&self, relay: &RelayId) -> Result<(), StorageError> {
        let (sql, owner) = (self.sql.clone(), relay.owner.to_string());
        let resign = move |conn: &mut SqliteConnection| {
            Sql::<_>::new(&sql.give_back_all, (bind::<Text, _>(owner.as_str()),)).execute(conn)?;
            Sql::<_>::new(&sql.resign, (bind::<Text, _>(owner.as_str()),)).execute(conn).map(drop)
        };
        self.worker.write("resign", resign).await
    }
}

/// Whether the lease of the one shard still belongs to this owner at this epoch. Call it within a write transaction, which
/// keeps it so until the commit.
pub(super) fn lease_stands(conn: &mut SqliteConnection, text: &str, owner: &str, lease: &Lease) -> QueryResult<bool> {
    let found = Sql::<_, Integer>::new(
        text,
        (bind::<Integer, _>(i32::from(lease.shard.0)), bind::<Text, _>(owner), bind::<BigInt, _>(lease.epoch)),
    )
    .get_result::<i32>(conn)
    .optional()?;
    Ok(found.is_some())
}

fn held(conn: &mut SqliteConnection, text: &str, owner: &str) -> QueryResult<Option<Lease>> {
    let row =
        Sql::<_, (BigInt, BigInt)>::new(text, (bind::<Text, _>(owner),)).get_result::<(i64, i64)>(conn).optional()?;
    Ok(row.map(|(epoch, control_version)| Lease { shard: ShardId(0), epoch, control_version }))
}
