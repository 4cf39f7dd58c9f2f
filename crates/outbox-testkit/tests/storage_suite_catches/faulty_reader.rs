use std::collections::BTreeMap;

use async_trait::async_trait;
use outbox_core::Message;
use outbox_core::ports::{Batch, ReadLimits, Reader, ShardId, StorageError};
use uuid::Uuid;

use crate::defect::Defect;

/// A right reader with a defect.
pub(crate) struct FaultyReader {
    pub(crate) inner: Box<dyn Reader>,
    pub(crate) defect: Defect,
    pub(crate) shards: u16,
    /// The youngest id returned of each shard: ids of the suite ascend in the order in which it makes messages.
    pub(crate) youngest: BTreeMap<ShardId, Uuid>,
    pub(crate) held_back: Vec<Message>,
}

impl FaultyReader {
    fn is_late(&mut self, message: &Message) -> bool {
        let youngest = self.youngest.entry(message.shard).or_default();
        let is_late = message.id < *youngest;
        *youngest = message.id.max(*youngest);
        is_late
    }

    fn spoil(&mut self, mut batch: Batch) -> Batch {
        match self.defect {
            Defect::ReturnsBatchesBackwards => batch.messages.reverse(),
            Defect::NeverSaysMore => batch.more = false,
            Defect::ForgetsRefusals => batch.refused.clear(),
            Defect::TellsStaleLeases => batch.leases.iter_mut().for_each(|lease| lease.epoch = 1),
            Defect::TellsStaleControlVersions => {
                batch.leases.iter_mut().for_each(|lease| lease.control_version = 0);
            }
            Defect::LosesLateCommits => batch.messages.retain(|message| !self.is_late(message)),
            Defect::OvertakesLateCommits => {
                let (late, mut in_time): (Vec<_>, Vec<_>) =
                    batch.messages.drain(..).partition(|message| self.is_late(message));
                if in_time.is_empty() {
                    in_time = std::mem::take(&mut self.held_back);
                }
                self.held_back.extend(late);
                batch.messages = in_time;
            }
            Defect::ForgetsHeldKeys => batch.held.clear(),
            Defect::LosesFailedMessages => batch.messages.retain(|message| message.attempts == 0),
            Defect::KnowsNoDueTime => batch.next_due_in = None,
            Defect::TellsNoLeases => batch.leases.clear(),
            _ => {}
        }
        batch
    }
}

#[async_trait]
impl Reader for FaultyReader {
    fn assign(&mut self, shards: &[ShardId]) {
        self.youngest.clear();
        if self.defect == Defect::ReadsEveryShard {
            let all: Vec<_> = (0..self.shards).map(ShardId).collect();
            self.inner.assign(&all);
        } else {
            self.inner.assign(shards);
        }
    }

    fn rewind(&mut self, shard: ShardId, from_seq: i64) {
        self.youngest.remove(&shard);
        if self.defect != Defect::IgnoresRewinds {
            self.inner.rewind(shard, from_seq);
        }
    }

    async fn read(&mut self, limits: &ReadLimits) -> Result<Batch, StorageError> {
        let mut limits = *limits;
        match self.defect {
            Defect::IgnoresTheRowLimit => limits.rows = usize::MAX,
            Defect::IgnoresTheByteLimit => limits.bytes = usize::MAX,
            Defect::LoadsLargeMessages => limits.max_message_bytes = usize::MAX,
            _ => {}
        }
        let batch = self.inner.read(&limits).await?;
        Ok(self.spoil(batch))
    }

    async fn sweep(&mut self, limits: &ReadLimits) -> Result<Batch, StorageError> {
        if self.defect == Defect::SweepsNothing {
            return Ok(Batch::default());
        }
        self.inner.sweep(limits).await
    }
}
