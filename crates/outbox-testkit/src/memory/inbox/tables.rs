use std::collections::BTreeMap;

use outbox_core::inbox::{
    ClaimToken, Consumer, HeldBurial, Identity, InboxDeadReason, Incoming, OrderingKey, ParkedBy, Partition, Standing,
};
use time::OffsetDateTime;

/// Everything that is committed.
#[derive(Debug, Default)]
pub(super) struct Tables {
    pub(super) messages: BTreeMap<(Consumer, Identity), MessageRow>,
    pub(super) held: BTreeMap<i64, HeldRow>,
    pub(super) parked: BTreeMap<(Consumer, OrderingKey), ParkedRow>,
    pub(super) dead_letters: BTreeMap<i64, DeadRow>,
    pub(super) positions: BTreeMap<(Consumer, Partition), i64>,
    pub(super) horizons: BTreeMap<Consumer, OffsetDateTime>,
    /// What handlers wrote, in the order of the commits.
    pub(super) effects: Vec<String>,
    /// Rows of the handlers' own tables.
    pub(super) own: BTreeMap<String, i64>,
    last_seq: i64,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct MessageRow {
    pub(super) standing: Standing,
    pub(super) processed_at: OffsetDateTime,
}

#[derive(Debug, Clone)]
pub(super) struct HeldRow {
    pub(super) consumer: Consumer,
    pub(super) identity: Option<Identity>,
    pub(super) key: Option<OrderingKey>,
    pub(super) incoming: Incoming,
    pub(super) attempts: u32,
    pub(super) due_at: OffsetDateTime,
    /// Whose it is, until when.
    pub(super) claim: Option<(ClaimToken, OffsetDateTime)>,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct ParkedRow {
    pub(super) by: ParkedBy,
    pub(super) parked_at: OffsetDateTime,
}

#[derive(Debug, Clone)]
pub(super) struct DeadRow {
    pub(super) consumer: Consumer,
    pub(super) identity: Option<Identity>,
    pub(super) key: Option<OrderingKey>,
    pub(super) incoming: Incoming,
    pub(super) attempts: u32,
    pub(super) reason: InboxDeadReason,
    pub(super) error: String,
    pub(super) parks_key: bool,
    pub(super) died_at: OffsetDateTime,
}

/// What a transaction changes when it commits.
#[derive(Debug)]
pub(super) enum Change {
    Message(Identity, Standing),
    Hold(i64, Box<HeldRow>),
    RemoveHeld(i64),
    Bury(i64, Box<DeadRow>),
    Park(OrderingKey, ParkedBy),
    Effect(String),
    Own(String, i64),
}

impl Tables {
    pub(super) fn next_seq(&mut self) -> i64 {
        self.last_seq += 1;
        self.last_seq
    }

    pub(super) fn apply(&mut self, consumer: &Consumer, change: Change, now: OffsetDateTime) {
        match change {
            Change::Message(identity, standing) => {
                self.messages.insert((consumer.clone(), identity), MessageRow { standing, processed_at: now });
            }
            Change::Hold(seq, row) => drop(self.held.insert(seq, *row)),
            Change::RemoveHeld(seq) => drop(self.held.remove(&seq)),
            Change::Bury(seq, row) => drop(self.dead_letters.insert(seq, *row)),
            Change::Park(key, by) => self.park(consumer, key, by, now),
            Change::Effect(effect) => self.effects.push(effect),
            Change::Own(row, by) => *self.own.entry(row).or_default() += by,
        }
    }

    /// Parks a key; a stronger reason replaces a weaker one.
    pub(super) fn park(&mut self, consumer: &Consumer, key: OrderingKey, by: ParkedBy, now: OffsetDateTime) {
        let row = self.parked.entry((consumer.clone(), key)).or_insert(ParkedRow { by, parked_at: now });
        row.by = row.by.max(by);
    }

    pub(super) fn is_held(&self, consumer: &Consumer, key: &OrderingKey) -> bool {
        self.held.values().any(|row| row.consumer == *consumer && row.key.as_ref() == Some(key))
    }

    /// Why a key is parked.
    pub(super) fn parked_by(&self, consumer: &Consumer, key: &OrderingKey) -> Option<ParkedBy> {
        self.parked.get(&(consumer.clone(), key.clone())).map(|row| row.by)
    }

    /// Parks a key for what is left of its reasons without an operator's.
    pub(super) fn settle(&mut self, consumer: &Consumer, key: &OrderingKey) {
        let parks = |row: &DeadRow| row.parks_key && row.consumer == *consumer && row.key.as_ref() == Some(key);
        let by = if self.dead_letters.values().any(parks) { ParkedBy::DeadLetter } else { ParkedBy::Held };
        let of_key = (consumer.clone(), key.clone());
        if by == ParkedBy::Held && !self.is_held(consumer, key) {
            self.parked.remove(&of_key);
        } else if let Some(row) = self.parked.get_mut(&of_key) {
            row.by = by;
        }
    }

    /// A dead letter of this key is gone, or parks it no more.
    pub(super) fn settle_without_letter(&mut self, consumer: &Consumer, key: &OrderingKey) {
        if self.parked_by(consumer, key) == Some(ParkedBy::DeadLetter) {
            self.settle(consumer, key);
        }
    }

    /// Moves a held message to the dead letters.
    pub(super) fn bury(&mut self, burial: &HeldBurial, now: OffsetDateTime) {
        let Some(row) = self.held.remove(&burial.seq) else { return };
        if let Some(identity) = &row.identity {
            let message = MessageRow { standing: Standing::Dead, processed_at: now };
            self.messages.insert((row.consumer.clone(), identity.clone()), message);
        }
        let HeldRow { consumer, identity, key, incoming, .. } = row;
        let (error, parks_key) = (shortened(&burial.error), burial.park_key && key.is_some());
        if let Some(key) = key.clone().filter(|_| parks_key) {
            self.park(&consumer, key, ParkedBy::DeadLetter, now);
        }
        let (attempts, reason) = (burial.attempts, burial.reason);
        let dead = DeadRow { consumer, identity, key, incoming, attempts, reason, error, parks_key, died_at: now };
        self.dead_letters.insert(burial.seq, dead);
    }
}

/// What is kept of an error's text.
pub(super) fn shortened(error: &str) -> String {
    const KEPT_CHARS: usize = 2_000;
    error.chars().take(KEPT_CHARS).collect()
}
