//! Parked keys, as the engine knows them.

use outbox_core::message::LaneKey;
use outbox_core::ports::{ParkedKey, ShardId, StorageError};

use super::pool::Pool;
use super::row::{lossy_text, shard};
use crate::Tables;

/// The keys of these shards that are parked.
pub(super) async fn keys(pool: &Pool, tables: &Tables, shards: &[ShardId]) -> Result<Vec<ParkedKey>, StorageError> {
    if shards.is_empty() {
        return Ok(Vec::new());
    }
    let shards: Vec<_> = shards.iter().map(|shard| shard.0.to_string()).collect();
    let text = format!(
        "SELECT shard, aggregate_type, aggregate_id FROM {} WHERE shard IN ({})",
        tables.parked_keys(),
        shards.join(", ")
    );
    let sets = pool.run("read the parked keys", &text).await?;
    let parked = |row: &mysql_async::Row| {
        let (kind, id) = (lossy_text(row, 1).unwrap_or_default(), lossy_text(row, 2).unwrap_or_default());
        ParkedKey { shard: shard(row, 0), lane: LaneKey::of(&kind, &id) }
    };
    Ok(sets.iter().flat_map(|set| &set.rows).map(parked).collect())
}
