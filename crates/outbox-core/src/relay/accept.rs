//! From a batch to lanes: which of the rows that a read returned go on, and which are given up until they are read again.

use std::sync::Arc;

use super::engine::Engine;
use super::failing::Write;
use super::intake::IntakeEvent;
use super::lanes::{Block, Entry, Wait};
use super::ownership::Fence;
use super::stats;
use crate::message::{LaneKey, Message};
use crate::ports::{Batch, Burial, DeadReason, HeldHead, Refused, ShardId, StorageErrorKind};

impl Engine {
    pub(super) fn on_intake(&mut self, event: IntakeEvent) {
        match event {
            IntakeEvent::Opened(Ok(reader)) => {
                self.database_is_well();
                self.intake.opened(reader);
            }
            IntakeEvent::Opened(Err(error)) => {
                self.database_failed("opening a reader failed", &error);
                let wait = self.config.reconnect.delay(self.intake.count_failure(), &mut self.rng);
                self.intake.failed(None, wait);
            }
            IntakeEvent::Read { reader, swept, took, result: Ok(batch) } => {
                stats::time("outbox_read_seconds", took);
                stats::size("outbox_batch_messages", batch.messages.len());
                let (more, next_due_in, any) = (batch.more, batch.next_due_in, !batch.messages.is_empty());
                let before = self.known.len();
                self.take(batch, swept);
                let taken = self.known.len() > before;
                // rows that are all held already are no reason to ask again at once, and rows that nobody takes (due ones of a
                // parked key come with every read) none to ask again soon; a cut read without messages has passed rows that wait
                let again = more && (taken || !any);
                let pace = super::intake::Pace { more: again, found: taken || (more && any), next_due_in };
                self.intake.returned(reader, pace, swept, self.config.polling_interval);
                if !swept && !more {
                    self.follow_up_suspects();
                }
                self.read_returned();
            }
            IntakeEvent::Read { reader, result: Err(error), .. } => {
                self.database_failed("reading failed", &error);
                let wait = self.config.reconnect.delay(self.intake.count_failure(), &mut self.rng);
                let reader = (error.kind() != StorageErrorKind::Unavailable).then_some(reader);
                self.intake.failed(reader, wait);
                self.read_returned();
            }
        }
    }

    fn read_returned(&mut self) {
        self.intake.reading = false;
        self.known.read_returned();
    }

    fn take(&mut self, batch: Batch, swept: bool) {
        stats::add(&self.shared.counters.reads, 1);
        stats::add(&self.shared.counters.read, batch.messages.len());
        let batch = self.fenced(batch);
        for head in batch.held {
            self.hold(head);
        }
        for refused in batch.refused {
            self.refuse(&refused);
        }
        for message in batch.messages {
            self.accept(message, swept);
        }
    }

    /// Drops the rows of shards that are another's at the read's snapshot, or whose parked keys are not known as of then.
    fn fenced(&mut self, mut batch: Batch) -> Batch {
        let mut stale = Vec::new();
        for seen in std::mem::take(&mut batch.leases) {
            match self.ownership.fence(&seen) {
                Fence::Stands => {}
                Fence::Stale => stale.push(seen.shard),
                Fence::Lost => self.lose_shard(seen.shard),
            }
        }
        if !stale.is_empty() {
            batch.messages.retain(|message| !stale.contains(&message.shard));
            batch.held.retain(|head| !stale.contains(&head.position.shard));
            batch.refused.retain(|refused| !stale.contains(&refused.position.shard));
        }
        batch
    }

    /// A failed message that waits for its next attempt holds its key.
    fn hold(&mut self, head: HeldHead) {
        let (shard, seq) = (head.position.shard, head.position.seq);
        let is_ours = self.ownership.is_active(shard) && !self.known.contains(shard, seq);
        if is_ours && !self.intake.will_be_read_again(shard, seq) && self.lanes.block_of(head.lane).is_none() {
            self.block(head.lane, Wait::Retry, shard, seq, Some(seq));
        }
    }

    /// A row that cannot be delivered becomes a dead letter.
    fn refuse(&mut self, refused: &Refused) {
        let position = refused.position;
        let Some(lease) = self.ownership.lease(position.shard) else { return };
        if !self.may_take(position.shard, position.seq, refused.lane)
            || !self.known.insert(position.shard, position.seq)
        {
            return;
        }
        // the route of a row that was not loaded is not known, so the general policy applies
        let park_key = self.config.dead_letters == super::DeadLetterPolicy::ParkKey;
        let error = match refused.reason {
            DeadReason::TooLarge => {
                format!("the payload is over max_message_bytes = {}", self.config.max_message_bytes)
            }
            _ => "a column holds a value that cannot be read".to_owned(),
        };
        let burial = Burial { position, attempts: 0, reason: refused.reason, error, outcome_unknown: false, park_key };
        self.write_failure(refused.lane, lease, Write::Bury(burial));
    }

    /// Whether a row may be taken from this read: its shard is read, it is not held already, nothing earlier of its shard
    /// is about to be read again, and its key is free.
    fn may_take(&mut self, shard: ShardId, seq: i64, lane: Option<LaneKey>) -> bool {
        if !self.ownership.is_active(shard)
            || self.intake.will_be_read_again(shard, seq)
            || self.known.contains(shard, seq)
        {
            return false;
        }
        let Some(lane) = lane else { return true };
        if !self.parked.is_empty() && self.parked.contains_key(&lane) {
            return false;
        }
        if self.lanes.blocked > 0 && self.lanes.block_of(lane).is_some() {
            self.meet_block(lane, shard, seq);
            return false;
        }
        if let Some(route) = self.routes.waits_for(lane) {
            self.routes.get_mut(route).given_up.add(shard, seq, Some(lane));
            return false;
        }
        if let Some(slot) = self.publisher.slots.waits_for(lane) {
            self.publisher.slots.give_up(slot, shard, seq, Some(lane));
            return false;
        }
        true
    }

    /// A row of a blocked key was read. Is it the head that is due? Then the block ends and the key is read again from there.
    fn meet_block(&mut self, lane: LaneKey, shard: ShardId, seq: i64) {
        let Some(block) = self.lanes.block_of(lane) else { return };
        block.rewind_from = block.rewind_from.min(seq);
        if block.wait == Wait::Retry && block.head == Some(seq) && block.shard == shard {
            block.wait = Wait::Release;
            self.release_if_free(lane);
        }
    }

    fn accept(&mut self, message: Message, swept: bool) {
        let (shard, seq, lane) = (message.shard, message.seq, message.lane());
        if !swept && !self.suspects.is_empty() {
            self.suspects.remove(&(shard, seq));
        }
        if !self.may_take(shard, seq, lane) {
            return;
        }
        if swept {
            // it may have committed after the last read: then the next one brings it, in its order
            self.suspects.insert((shard, seq));
            self.intake.wake();
            return;
        }
        let name = match self.transport.route(&message) {
            Ok(name) => name,
            Err(reason) => {
                self.known.insert(shard, seq);
                let policy = self.config.dead_letters;
                return self.bury(&message, lane, message.attempts, DeadReason::Rejected, &reason, policy);
            }
        };
        let route = self.routes.id(&name);
        if self.routes.paused() > 0 && self.routes.get(route).is_waiting() {
            self.routes.get_mut(route).given_up.add(shard, seq, lane);
            return;
        }
        self.known.insert(shard, seq);
        self.open_bytes += message.size_bytes();
        let alone = !self.quarantine.is_empty() && self.quarantine.contains(&(shard, seq));
        let entry = Entry { message: Arc::new(message), lane, route, alone };
        if let Some(entry) = self.lanes.admit(entry, self.ordering) {
            self.routes.get_mut(route).waiting.push_back(entry);
        }
    }

    /// What the sweep found and a whole read after it did not return was really missed: it is read again from there.
    fn follow_up_suspects(&mut self) {
        for (shard, seq) in std::mem::take(&mut self.suspects) {
            tracing::warn!(shard = shard.0, seq, "only the full sweep found this message");
            stats::add(&self.shared.counters.swept, 1);
            self.intake.rewind(shard, seq);
        }
    }

    /// Blocks a key and gives up everything of it that is not yet handed over.
    pub(super) fn block(&mut self, lane: LaneKey, wait: Wait, shard: ShardId, from: i64, head: Option<i64>) {
        let mut given_up: Vec<Entry> = self.lanes.block(lane, Block { wait, shard, rewind_from: from, head }).into();
        let mut queued = Vec::new();
        if let Some(route) = self.lanes.map.get(&lane).filter(|lane| lane.open > 0).map(|lane| lane.route) {
            self.publisher.slots.purge_lane(route, lane, |entry| queued.push(entry));
            self.routes.get_mut(route).waiting.retain(|entry| {
                let keep = entry.lane != Some(lane);
                if !keep {
                    queued.push(entry.clone());
                }
                keep
            });
        }
        if let Some(state) = self.lanes.map.get_mut(&lane) {
            state.open -= u32::try_from(queued.len()).unwrap_or(state.open).min(state.open);
        }
        given_up.append(&mut queued);
        for entry in given_up {
            self.forget(&entry);
            if let Some(block) = self.lanes.block_of(lane) {
                block.rewind_from = block.rewind_from.min(entry.message.seq);
            }
        }
        self.release_if_free(lane);
    }

    /// Ends a block that waits for nothing but what is in flight, once nothing is.
    pub(super) fn release_if_free(&mut self, lane: LaneKey) {
        let Some(state) = self.lanes.map.get(&lane) else { return };
        let free = state.open == 0 && state.block.as_deref().is_some_and(|block| block.wait == Wait::Release);
        if free && let Some(block) = self.lanes.unblock(lane) {
            self.intake.rewind(block.shard, block.rewind_from);
        }
    }

    /// The message is no longer held: it will be read again.
    pub(super) fn forget(&mut self, entry: &Entry) {
        self.known.remove(entry.message.shard, entry.message.seq);
        self.open_bytes = self.open_bytes.saturating_sub(entry.message.size_bytes());
    }
}
