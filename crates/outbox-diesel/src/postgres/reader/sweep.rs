//! The full sweep: the net for loss below the floors.

use std::time::Instant;

use outbox_core::ports::{Batch, ReadLimits, StorageError};

use super::sql::ReadBinds;
use super::{PostgresReader, count, shard_column};
use crate::reading::{Appetite, Take};

impl PostgresReader {
    pub(super) async fn sweep_once(&mut self, limits: &ReadLimits) -> Result<Batch, StorageError> {
        let Some(piece) = self.sweep.piece(self.tracker.floors(), limits) else { return Ok(Batch::default()) };
        let binds = ReadBinds {
            inline_bytes: count(Appetite::inline_bytes(piece.rows * piece.ranges.len(), limits)),
            shards: piece.ranges.iter().map(|range| shard_column(range.shard)).collect(),
            floors: piece.ranges.iter().map(|range| range.after).collect(),
            upto: Some(piece.ranges.iter().map(|range| range.upto).collect()),
            rows: vec![count(piece.rows); piece.ranges.len()],
            late: None,
            due: None,
            skim: None,
        };
        let started = Instant::now();
        let mut reply = self.run(&self.statements.sweep, binds).await?;
        self.sweep.took(started.elapsed());
        let leases = self.assigned_only(std::mem::take(&mut reply.leases));
        let clock = reply.clock;
        let mut take = Take::new(limits, clock);
        let swept = piece.sort_out(reply.found, &mut take);
        self.load_payloads(&mut take).await?;
        self.sweep.advance(&swept);
        for (shard, from) in swept.waiting {
            self.due.add(shard, from);
        }
        let mut batch = Batch { leases, ..take.batch };
        self.finish(&mut batch, clock);
        Ok(batch)
    }
}
