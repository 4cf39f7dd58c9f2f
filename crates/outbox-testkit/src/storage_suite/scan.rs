use std::collections::{BTreeMap, BTreeSet, HashSet};

use outbox_core::message::Message;
use outbox_core::ports::{Batch, HeldHead, ReadLimits, Reader, Refused, ShardId};
use uuid::Uuid;

use crate::case::Patience;

/// Enough for every case that is not about limits.
pub(super) const WIDE: ReadLimits = ReadLimits { rows: 5_000, bytes: 64 << 20, max_message_bytes: 16 << 20 };
/// Reads after which nothing new is expected.
const QUIET_READS: usize = 5;

/// A reader, and all that it returned. Checks with every read what holds for every read.
pub(super) struct Scan {
    reader: Box<dyn Reader>,
    assigned: BTreeSet<ShardId>,
    pub(super) limits: ReadLimits,
    pub(super) seen: Vec<Message>,
    known: HashSet<Uuid>,
    pub(super) held: Vec<HeldHead>,
    pub(super) refused: Vec<Refused>,
}

impl Scan {
    pub(super) fn new(reader: Box<dyn Reader>, shards: &[ShardId]) -> Self {
        let mut scan = Self {
            reader,
            assigned: BTreeSet::new(),
            limits: WIDE,
            seen: Vec::new(),
            known: HashSet::new(),
            held: Vec::new(),
            refused: Vec::new(),
        };
        scan.assign(shards);
        scan
    }

    pub(super) fn assign(&mut self, shards: &[ShardId]) {
        self.reader.assign(shards);
        self.assigned = shards.iter().copied().collect();
    }

    pub(super) fn rewind(&mut self, shard: ShardId, from_seq: i64) {
        self.reader.rewind(shard, from_seq);
    }

    pub(super) async fn read(&mut self) -> Batch {
        let batch = self.reader.read(&self.limits).await.expect("read");
        self.take(batch)
    }

    pub(super) async fn sweep(&mut self) -> Batch {
        let batch = self.reader.sweep(&self.limits).await.expect("sweep");
        self.take(batch)
    }

    /// Reads until all of these were returned since the scan began.
    pub(super) async fn until_seen(&mut self, ids: &[Uuid]) {
        self.until("a read returns the message", |scan| ids.iter().all(|id| scan.has_seen(*id))).await;
    }

    /// Reads until the condition holds.
    pub(super) async fn until(&mut self, what: &str, condition: impl Fn(&Self) -> bool) {
        let patience = Patience::new();
        while !condition(self) {
            let known = self.known.len();
            self.read().await;
            if self.known.len() == known && !condition(self) {
                patience.wait(|| format!("{what}; {} messages were returned", self.seen.len())).await;
            }
        }
    }

    /// Sweeps until the condition holds.
    pub(super) async fn sweep_until(&mut self, what: &str, condition: impl Fn(&Self) -> bool) {
        let patience = Patience::new();
        while !condition(self) {
            self.sweep().await;
            if !condition(self) {
                patience.wait(|| format!("{what}; {} messages were returned", self.seen.len())).await;
            }
        }
    }

    /// Reads until nothing more is to be expected.
    pub(super) async fn until_quiet(&mut self) {
        let patience = Patience::new();
        let mut quiet_reads = 0;
        while quiet_reads < QUIET_READS {
            let known = self.known.len();
            let batch = self.read().await;
            let is_new = self.known.len() > known;
            quiet_reads = if is_new || batch.more { 0 } else { quiet_reads + 1 };
            if batch.more && !is_new {
                patience.wait(|| "`more` is true, and the reads return nothing new".to_owned()).await;
            }
        }
    }

    pub(super) fn has_seen(&self, id: Uuid) -> bool {
        self.known.contains(&id)
    }

    /// Forgets what was returned.
    pub(super) fn forget(&mut self) {
        self.seen.clear();
        self.known.clear();
        self.held.clear();
        self.refused.clear();
    }

    /// What was returned, each message where it was returned first.
    pub(super) fn first_sight(&self) -> Vec<&Message> {
        let mut known = HashSet::new();
        self.seen.iter().filter(|message| known.insert(message.id)).collect()
    }

    /// The payloads of a key as text, in the order in which they were returned first.
    pub(super) fn payloads_of(&self, key: &str) -> Vec<String> {
        let of_key = self.first_sight().into_iter().filter(|message| message.aggregate_id.as_deref() == Some(key));
        of_key.map(|message| String::from_utf8_lossy(message.payload.as_ref()).into_owned()).collect()
    }

    fn take(&mut self, batch: Batch) -> Batch {
        self.check(&batch);
        self.known.extend(batch.messages.iter().map(|message| message.id));
        self.seen.extend(batch.messages.iter().cloned());
        self.held.extend(&batch.held);
        self.refused.extend(batch.refused.iter().cloned());
        batch
    }

    fn check(&self, batch: &Batch) {
        let rows = batch.messages.len();
        assert!(rows <= self.limits.rows, "{rows} messages in a read of at most {}", self.limits.rows);
        let bytes: usize = batch.messages.iter().map(|message| message.payload.as_ref().len()).sum();
        assert!(bytes <= self.limits.bytes || rows == 1, "{bytes} bytes in a read of at most {}", self.limits.bytes);
        let mut last: BTreeMap<ShardId, i64> = BTreeMap::new();
        for message in &batch.messages {
            assert!(self.assigned.contains(&message.shard), "{:?} is not assigned", message.shard);
            let before = last.insert(message.shard, message.seq);
            assert!(before.is_none_or(|seq| seq < message.seq), "seq does not ascend in {:?}", message.shard);
            let size = message.payload.as_ref().len();
            assert!(size <= self.limits.max_message_bytes, "a payload of {size} bytes was loaded");
        }
        for refused in &batch.refused {
            assert!(self.assigned.contains(&refused.position.shard), "{:?} is not assigned", refused.position.shard);
        }
        for held in &batch.held {
            assert!(self.assigned.contains(&held.position.shard), "{:?} is not assigned", held.position.shard);
        }
    }
}
