use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use anyhow::Result;
use diesel::{
    QueryableByName, sql_query,
    sql_types::{Nullable, SmallInt, Text, Uuid as SqlUuid},
};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use uuid::Uuid;

/// Between two looks at the leases: what a take-over time may be wrong by.
pub(crate) const LOOK_INTERVAL: Duration = Duration::from_millis(20);

/// Who owns a shard.
#[derive(Debug, Clone, PartialEq, Eq, QueryableByName)]
pub(crate) struct LeaseRow {
    #[diesel(sql_type = SmallInt)]
    pub(crate) shard: i16,
    #[diesel(sql_type = Nullable<SqlUuid>)]
    pub(crate) owner: Option<Uuid>,
    #[diesel(sql_type = Nullable<Text>)]
    pub(crate) name: Option<String>,
}

/// What a relay held when it was hit.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Holding {
    pub(crate) owner: Option<Uuid>,
    pub(crate) shards: BTreeSet<i16>,
}

/// All lease rows with the names of their owners.
pub(crate) async fn look(conn: &mut AsyncPgConnection) -> Result<Vec<LeaseRow>> {
    let leases = "SELECT l.shard, l.owner, r.name FROM outbox_leases l LEFT JOIN outbox_relays r USING (owner)";
    Ok(sql_query(leases).load(conn).await?)
}

/// What the relay of this name holds now.
pub(crate) async fn holding(conn: &mut AsyncPgConnection, name: &str) -> Result<Holding> {
    let rows = look(conn).await?;
    let own: Vec<LeaseRow> = rows.into_iter().filter(|row| row.name.as_deref() == Some(name)).collect();
    let shards = own.iter().map(|row| row.shard).collect();
    Ok(Holding { owner: own.iter().find_map(|row| row.owner), shards })
}

/// Waits until every shard of a relay that was hit has another owner: the time from `since` to that of the last one. `None`: not within `limit`.
pub(crate) async fn taken_over(
    conn: &mut AsyncPgConnection,
    lost: &Holding,
    since: Instant,
    limit: Duration,
) -> Result<Option<Duration>> {
    while since.elapsed() < limit {
        let rows = look(conn).await?;
        let is_left =
            |row: &LeaseRow| lost.shards.contains(&row.shard) && (row.owner.is_none() || row.owner == lost.owner);
        if !rows.iter().any(is_left) {
            return Ok(Some(since.elapsed()));
        }
        tokio::time::sleep(LOOK_INTERVAL).await;
    }
    Ok(None)
}
