//! The full sweep: the net for loss below the floors, and for a row that took longer than the margin to become visible.

use std::time::Instant;

use outbox_core::order::HotRange;
use outbox_core::ports::{Batch, ReadLimits, StorageError};

use super::MysqlReader;
use super::sql::Statement;
use crate::reading::{Appetite, Take};

impl MysqlReader {
    pub(super) async fn sweep_once(&mut self, limits: &ReadLimits) -> Result<Batch, StorageError> {
        let Some(piece) = self.sweep.piece(self.tracker.floors(), limits) else { return Ok(Batch::default()) };
        let inline_bytes = Appetite::inline_bytes(piece.rows * piece.ranges.len(), limits);
        let tables = self.tables.clone();
        let mut statement = Statement::new(&tables, inline_bytes);
        for range in &piece.ranges {
            let rows = HotRange { shard: range.shard, after: range.after, limit: piece.rows };
            statement.range(&rows, Some(range.upto));
        }
        let started = Instant::now();
        let mut reply = self.run(&statement.into_text()).await?;
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
