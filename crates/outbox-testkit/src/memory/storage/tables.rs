use std::collections::BTreeMap;

use outbox_core::message::{LaneKey, Message, NewMessage};
use outbox_core::ports::{DeadReason, Position, ShardId};
use time::OffsetDateTime;
use uuid::Uuid;

/// The tables as an SQL storage has them.
#[derive(Debug)]
pub(super) struct Tables {
    pub(super) messages: BTreeMap<(ShardId, i64), Row>,
    pub(super) leases: BTreeMap<ShardId, LeaseRow>,
    pub(super) relays: BTreeMap<Uuid, RelayRow>,
    pub(super) dead_letters: BTreeMap<i64, DeadRow>,
    pub(super) parked_keys: BTreeMap<(String, String), ParkedRow>,
    last_seq: i64,
}

#[derive(Debug, Clone)]
pub(super) struct Row {
    pub(super) message: Message,
    pub(super) available_at: Option<OffsetDateTime>,
    pub(super) retry_at: Option<OffsetDateTime>,
}

#[derive(Debug, Default)]
pub(super) struct LeaseRow {
    /// The owner and when its lease ends.
    pub(super) held: Option<(Uuid, OffsetDateTime)>,
    pub(super) epoch: i64,
    pub(super) control_version: i64,
}

#[derive(Debug)]
pub(super) struct RelayRow {
    pub(super) seen_at: OffsetDateTime,
    pub(super) accepting: bool,
}

#[derive(Debug)]
pub(super) struct ParkedRow {
    pub(super) shard: ShardId,
    /// The dead letter that parked the key; `None`: an operator did.
    pub(super) dead_letter: Option<Uuid>,
}

#[derive(Debug)]
pub(super) struct DeadRow {
    pub(super) row: Row,
    pub(super) reason: DeadReason,
    pub(super) error: String,
    pub(super) outcome_unknown: bool,
    pub(super) died_at: OffsetDateTime,
}

impl Tables {
    pub(super) fn new(shards: u16) -> Self {
        Self {
            messages: BTreeMap::new(),
            leases: (0..shards).map(|shard| (ShardId(shard), LeaseRow::default())).collect(),
            relays: BTreeMap::new(),
            dead_letters: BTreeMap::new(),
            parked_keys: BTreeMap::new(),
            last_seq: 0,
        }
    }

    pub(super) fn insert(&mut self, new: NewMessage, appended_at: OffsetDateTime) {
        self.last_seq += 1;
        let key = new.aggregate_id.as_deref();
        let shard = self.shard_of(&new.aggregate_type, key, new.id);
        let message = Message {
            id: new.id,
            shard,
            seq: self.last_seq,
            aggregate_type: new.aggregate_type,
            aggregate_id: new.aggregate_id,
            event_type: new.event_type,
            payload: new.payload,
            content_type: new.content_type,
            headers: outbox_core::Headers::from_map(&new.headers),
            occurred_at: new.occurred_at.unwrap_or(appended_at).to_offset(time::UtcOffset::UTC),
            attempts: 0,
        };
        let row = Row { message, available_at: new.available_at, retry_at: None };
        self.messages.insert((shard, self.last_seq), row);
    }

    pub(super) fn shard_of(&self, aggregate_type: &str, aggregate_id: Option<&str>, id: Uuid) -> ShardId {
        let digest = match aggregate_id {
            Some(key) => LaneKey::of(aggregate_type, key),
            None => LaneKey::of("", &id.to_string()),
        };
        let shards = self.leases.len() as u64;
        ShardId(u16::try_from((digest.0 >> 32) % shards).unwrap_or_default())
    }

    pub(super) fn row(&mut self, position: &Position) -> Option<&mut Row> {
        let row = self.messages.get_mut(&(position.shard, position.seq))?;
        (row.message.id == position.id).then_some(row)
    }

    pub(super) fn remove(&mut self, position: &Position) -> Option<Row> {
        self.row(position)?;
        self.messages.remove(&(position.shard, position.seq))
    }

    /// Tells the shard's owner that an operator changed something.
    pub(super) fn bump_control_version(&mut self, shard: ShardId) {
        if let Some(lease) = self.leases.get_mut(&shard) {
            lease.control_version += 1;
        }
    }
}

impl Row {
    /// When a waiting row is due.
    pub(super) fn wake_at(&self) -> Option<OffsetDateTime> {
        self.retry_at.or(self.available_at)
    }

    pub(super) fn is_waiting(&self, now: OffsetDateTime) -> bool {
        self.wake_at().is_some_and(|wake_at| wake_at > now)
    }
}
