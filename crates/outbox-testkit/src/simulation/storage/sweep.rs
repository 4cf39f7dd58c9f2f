use outbox_core::ports::{Batch, ReadLimits, ShardId, StorageError};

use super::call::Client;

/// Where the next piece of a reader's sweep begins.
pub(super) struct SweepCursor(ShardId, i64);

impl Default for SweepCursor {
    fn default() -> Self {
        Self(ShardId(0), 0)
    }
}

impl SweepCursor {
    pub(super) async fn next(
        &mut self,
        client: &Client,
        floors: Vec<(ShardId, i64)>,
        limits: &ReadLimits,
    ) -> Result<Batch, StorageError> {
        let (cursor, limits) = ((self.0, self.1), *limits);
        let swept = client.call("sweep", move |state| state.database.sweep(&floors, cursor, &limits, state.clock()));
        let (mut batch, next) = swept.await?;
        batch.more = next.is_some();
        batch.held.clear();
        *self = next.map_or_else(Self::default, |(shard, after)| Self(shard, after));
        Ok(batch)
    }
}
