//! The full sweep: the net for loss below the floors, and for a row that took longer than the margin to become visible.

use std::time::{Duration, Instant};

use outbox_core::ports::{Batch, ReadLimits, ShardId, StorageError};

use super::MysqlReader;
use super::ranges::Range;
use super::sql::Statement;
use crate::reading::{Appetite, Take, Taken};

/// A piece that takes the server longer is followed by a rest.
const QUICK: Duration = Duration::from_millis(50);
/// How long the rest is, in times of what the piece took.
const REST: u32 = 20;

/// How far the sweep is; it wraps at the highest floor.
///
/// A limit of rows does not bound a piece: deleted rows that are not purged, and of which there are millions while another session
/// holds an old snapshot, are skipped and not counted (a million of them in 20 ms). No narrower range would bound it either, because
/// MariaDB does not check where a range ends while it skips them. So a slow piece is followed by a rest.
#[derive(Debug, Default)]
pub(super) struct SweepCursor {
    after: i64,
    rests_until: Option<Instant>,
}

impl SweepCursor {
    fn rests(&self) -> bool {
        self.rests_until.is_some_and(|until| Instant::now() < until)
    }

    fn took(&mut self, time: Duration) {
        self.rests_until = (time > QUICK).then(|| Instant::now() + time * REST);
    }
}

impl MysqlReader {
    pub(super) async fn sweep_once(&mut self, limits: &ReadLimits) -> Result<Batch, StorageError> {
        if self.sweep.rests() {
            return Ok(Batch::default());
        }
        let Some(range) = self.next_piece(limits) else { return Ok(Batch::default()) };
        let inline_bytes = Appetite::inline_bytes(range.limit, limits);
        let tables = self.tables.clone();
        let mut statement = Statement::new(&tables, inline_bytes);
        statement.rows(&range);
        let started = Instant::now();
        let mut reply = self.run(&statement.into_text()).await?;
        self.sweep.took(started.elapsed());
        let leases = self.assigned_only(std::mem::take(&mut reply.leases));
        let clock = reply.clock;
        let mut take = Take::new(limits, clock);
        let mut waiting = Vec::new();
        let (mut after, mut cut) = (range.after, reply.found.len() >= range.limit);
        reply.found.sort_by_key(|found| found.position().seq);
        for found in reply.found {
            let (shard, seq) = (found.position().shard, found.position().seq);
            if self.tracker.floor(shard).is_some_and(|floor| seq <= floor) {
                match take.row(found) {
                    Taken::No => {
                        cut = true;
                        break;
                    }
                    Taken::Waits(wake_at) => waiting.push((shard, (wake_at, seq))),
                    Taken::Yes => {}
                }
            }
            after = seq;
        }
        take.batch.more |= cut;
        self.load_payloads(&mut take).await?;
        self.sweep.after = if cut { after } else { 0 };
        for (shard, from) in waiting {
            self.due.add(shard, from);
        }
        let mut batch = Batch { leases, ..take.batch };
        self.finish(&mut batch, clock);
        Ok(batch)
    }

    /// The next piece below the floors; `None` when nothing is below any.
    fn next_piece(&mut self, limits: &ReadLimits) -> Option<Range> {
        let highest = self.tracker.floors().map(|(_, floor)| floor).max().filter(|&floor| floor > 0)?;
        if self.sweep.after >= highest {
            self.sweep.after = 0;
        }
        let after = self.sweep.after;
        let shards: Vec<ShardId> =
            self.tracker.floors().filter(|&(_, floor)| floor > after).map(|(shard, _)| shard).collect();
        Some(Range { after, upto: Some(highest), shards, limit: limits.rows.max(1) })
    }
}
