use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use anyhow::Result;
use uuid::Uuid;

use crate::database::{Connection, LeaseRow};

/// Between two looks at the leases: what a take-over time may be wrong by.
pub(crate) const LOOK_INTERVAL: Duration = Duration::from_millis(20);

/// What a relay held when it was hit.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Holding {
    pub(crate) owner: Option<Uuid>,
    pub(crate) shards: BTreeSet<i16>,
}

/// What the relay of this name holds now.
pub(crate) async fn holding(conn: &mut dyn Connection, name: &str) -> Result<Holding> {
    let rows = conn.leases().await?;
    let own: Vec<LeaseRow> = rows.into_iter().filter(|row| row.name.as_deref() == Some(name)).collect();
    let shards = own.iter().map(|row| row.shard).collect();
    Ok(Holding { owner: own.iter().find_map(|row| row.owner), shards })
}

/// Waits until every shard of a relay that was hit has another owner: the time from `since` to that of the last one. `None`: not within `limit`.
pub(crate) async fn taken_over(
    conn: &mut dyn Connection,
    lost: &Holding,
    since: Instant,
    limit: Duration,
) -> Result<Option<Duration>> {
    while since.elapsed() < limit {
        let rows = conn.leases().await?;
        let is_left =
            |row: &LeaseRow| lost.shards.contains(&row.shard) && (row.owner.is_none() || row.owner == lost.owner);
        if !rows.iter().any(is_left) {
            return Ok(Some(since.elapsed()));
        }
        tokio::time::sleep(LOOK_INTERVAL).await;
    }
    Ok(None)
}
