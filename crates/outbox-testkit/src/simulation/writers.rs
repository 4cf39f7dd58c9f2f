//! Services that append messages in their own transactions.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use outbox_core::Message;
use outbox_core::message::{Headers, Payload};
use outbox_core::ports::{LaneOrdering, ShardId};
use outbox_core::relay::RelayHandle;
use tokio::sync::{Mutex, OwnedMutexGuard};
use tokio::time::sleep;
use uuid::Uuid;

use super::database::{Key, Micros, Row, Transaction, timestamp};
use super::dice::Dice;
use super::ledger::{Nature, Record};
use super::scenario::{ELSEWHERE, MAX_MESSAGE_BYTES, OrderRule, WATCH_MARGIN_MS};
use super::world::World;

/// The rows of the service that writers lock before they append: one for each key.
type RowLocks = Arc<Vec<Arc<Mutex<()>>>>;

/// How long a row may take into the index, in milliseconds: just less than the margin of the readers.
const LONGEST_INSERT_MS: u64 = WATCH_MARGIN_MS - 1;

/// Runs all writers to their end.
pub(super) async fn write_everything(world: Arc<World>) {
    let writing = &world.scenario.writing;
    let locks: RowLocks = Arc::new((0..writing.keys).map(|_| Arc::default()).collect());
    let mut tasks = Vec::new();
    for number in 0..writing.writers {
        tasks.push(tokio::spawn(Writer::new(&world, &locks, number).write()));
    }
    if writing.long_transaction {
        tasks.push(tokio::spawn(Writer::new(&world, &locks, writing.writers).hold_one_open()));
    }
    for task in tasks {
        if task.await.is_err() {
            world.violated(super::ViolationKind::Broken, "a writer panicked".to_owned());
        }
    }
}

struct Writer {
    world: Arc<World>,
    locks: RowLocks,
    dice: Dice,
    number: u64,
    appended: u64,
}

impl Writer {
    fn new(world: &Arc<World>, locks: &RowLocks, number: u64) -> Self {
        let dice = Dice::new(world.scenario.seed, 100 + number);
        Self { world: world.clone(), locks: locks.clone(), dice, number, appended: 0 }
    }

    async fn write(mut self) {
        for _ in 0..self.world.scenario.writing.transactions {
            let think = self.dice.millis(0, self.world.scenario.writing.think_ms);
            sleep(think).await;
            self.transaction().await;
        }
    }

    /// Takes an id first and appends last, over most of the run.
    async fn hold_one_open(mut self) {
        let mut transaction = Transaction::default();
        self.world.step(|state| state.database.touch(&mut transaction));
        let early = self.append(&mut transaction, None).await;
        sleep(self.world.scenario.rough.mul_f64(0.8)).await;
        let late = self.append(&mut transaction, None).await;
        self.finish(transaction, vec![early, late]).await;
    }

    async fn transaction(&mut self) {
        let writing = self.world.scenario.writing.clone();
        let takes_locks = !self.dice.once_in(writing.unlocked_every);
        let mut keys = BTreeSet::new();
        for _ in 0..self.dice.pick(&[0, 1, 1, 1, 2, 3]) {
            let hot = self.dice.once_in(3);
            keys.insert(if hot { 0 } else { self.dice.below(self.locks.len()) });
        }
        let mut transaction = Transaction::default();
        let mut guards: Vec<OwnedMutexGuard<()>> = Vec::new();
        let mut ids = Vec::new();
        for key in keys {
            if takes_locks {
                guards.push(self.locks[key].clone().lock_owned().await);
            }
            for _ in 0..self.dice.pick(&[1, 1, 1, 2, 3]) {
                ids.push(self.append(&mut transaction, Some(key)).await);
            }
        }
        if ids.is_empty() || self.dice.once_in(8) {
            ids.push(self.append(&mut transaction, None).await);
        }
        let delay = if self.dice.once_in(2) { self.dice.millis(0, writing.commit_delay_ms) } else { Duration::ZERO };
        sleep(delay).await;
        self.finish(transaction, ids).await;
    }

    async fn finish(&mut self, transaction: Transaction, ids: Vec<Uuid>) {
        let rolls_back = self.dice.once_in(self.world.scenario.writing.rollback_every);
        self.world.step(|state| {
            if rolls_back {
                state.database.roll_back(transaction);
            } else {
                state.database.commit(transaction);
                state.ledger.committed(&ids);
            }
            if self.world.scenario.nudges {
                state.relays.values().filter_map(|control| control.handle.as_ref()).for_each(RelayHandle::nudge);
            }
            let verb = if rolls_back { "rolls back" } else { "commits" };
            let seqs: Vec<i64> = ids.iter().filter_map(|id| state.ledger.find(*id)).map(|record| record.seq).collect();
            state.note(|| format!("writer {} {verb} {seqs:?}", self.number));
        });
    }

    /// One append: the transaction's id, then, maybe later, the `seq`.
    async fn append(&mut self, transaction: &mut Transaction, key: Option<usize>) -> Uuid {
        let appended_at = self.world.step(|state| {
            state.database.touch(transaction);
            state.ledger.tick()
        });
        if self.dice.once_in(3) {
            let slow = self.dice.millis(0, 12);
            sleep(slow).await;
        }
        let (row, nature) = self.row(key);
        let id = row.message.id;
        let place = self.world.step(|state| {
            let record_of = Record {
                id,
                shard: ShardId(0),
                seq: 0,
                key: row.key(),
                nature,
                appended_at,
                committed_at: None,
                out_of_order: row.available_at.is_some(),
                too_large: row.message.payload.0.len() > MAX_MESSAGE_BYTES,
                published: 0,
                first_handed: None,
                dead: false,
                discarded: false,
                refusals: 0,
                returns: 0,
                retries: 0,
                rejected: false,
            };
            let (shard, seq) = state.database.insert(transaction, row);
            state.note(|| {
                format!("writer {} appends {seq} to shard {}: {:?}, {nature:?}", self.number, shard.0, record_of.key)
            });
            state.ledger.appended(Record { shard, seq, ..record_of });
            (shard, seq)
        });
        self.get_into_the_index(place).await;
        id
    }

    /// The row can be seen by a dirty read some time after its `seq` was drawn, and before the append returns.
    async fn get_into_the_index(&mut self, place: (ShardId, i64)) {
        if self.world.scenario.order == OrderRule::DirtyReads {
            let slow = if self.dice.once_in(4) { self.dice.millis(0, LONGEST_INSERT_MS) } else { Duration::ZERO };
            sleep(slow).await;
            self.world.step(|state| state.database.appear(place));
        }
    }

    fn row(&mut self, key: Option<usize>) -> (Row, Nature) {
        let now = self.world.lock().clock();
        let writing = &self.world.scenario.writing;
        let topics = &self.world.scenario.topics;
        let key: Option<Key> = key.map(|key| (topics[key % topics.len()].clone(), format!("k{key}")));
        self.appended += 1;
        let nature = nature(&mut self.dice, writing.refused_every, self.world.scenario.relay.max_attempts);
        let lanes = self.world.scenario.lanes;
        let returned = lanes == LaneOrdering::OneInFlight && writing.refused_every > 0 && self.dice.once_in(50);
        let nature = if returned { Nature::ReturnedTimes(self.dice.pick(&[1, 1, 3])) } else { nature };
        let too_large = writing.refused_every > 0 && self.dice.once_in(80);
        let bytes = if too_large { MAX_MESSAGE_BYTES + 1 } else { self.dice.below(300) };
        let scheduled = self.dice.once_in(writing.scheduled_every);
        let delay = Micros::try_from(self.dice.between(0, 3_000_000)).unwrap_or(0) - 500_000;
        let elsewhere = self.world.scenario.two_routes && self.dice.once_in(3);
        let message = Message {
            id: Uuid::from_u64_pair(self.world.scenario.seed | 1 << 63, self.number << 32 | self.appended),
            shard: ShardId(0),
            seq: 0,
            aggregate_type: key.as_ref().map_or(&topics[0], |(kind, _)| kind).clone(),
            aggregate_id: key.map(|(_, id)| id),
            event_type: if elsewhere { ELSEWHERE } else { "simulated" }.to_owned(),
            payload: Payload(Bytes::from(vec![0; bytes])),
            content_type: "application/octet-stream".to_owned(),
            headers: Headers::default(),
            occurred_at: timestamp(now),
            attempts: 0,
        };
        (
            Row {
                message,
                available_at: scheduled.then_some(now + delay),
                retry_at: None,
                undecodable: nature == Nature::Undecodable,
            },
            nature,
        )
    }
}

fn nature(dice: &mut Dice, refused_every: u64, max_attempts: u32) -> Nature {
    if !dice.once_in(refused_every) {
        return Nature::Healthy;
    }
    match dice.between(0, 12) {
        0..=2 => Nature::RefusedTimes(1),
        3..=5 => Nature::RefusedTimes(max_attempts),
        6 => Nature::RefusedTimes(u32::MAX),
        7 | 8 => Nature::Rejected,
        9 => Nature::RefusedLocally,
        10 => dice.pick(&[Nature::Unroutable, Nature::Undecodable]),
        _ => Nature::Poison,
    }
}
