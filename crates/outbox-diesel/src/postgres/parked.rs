//! Parked keys, as the engine knows them.

use diesel::deserialize::{self, QueryableByName};
use diesel::pg::Pg;
use diesel::row::NamedRow;
use outbox_core::message::LaneKey;
use outbox_core::ports::{ParkedKey, ShardId};

use super::row::{PgRow, lossy_text, small};

/// The keys of some shards that are parked.
pub(super) const PARKED_KEYS: &str = "SELECT p.shard, p.aggregate_type, p.aggregate_id FROM {{parked_keys}} AS p \
    WHERE p.shard = ANY ($1::int2[])";

/// (shard, aggregate type, aggregate id).
pub(super) struct ParkedRow(pub(super) ParkedKey);

impl QueryableByName<Pg> for ParkedRow {
    fn build<'a>(row: &impl NamedRow<'a, Pg>) -> deserialize::Result<Self> {
        let row = &PgRow(row);
        let (kind, id) = (lossy_text(row, 1).unwrap_or_default(), lossy_text(row, 2).unwrap_or_default());
        let shard = ShardId(u16::try_from(small(row, 0)).unwrap_or(0));
        Ok(Self(ParkedKey { shard, lane: LaneKey::of(&kind, &id) }))
    }
}
