//! A storage of one's own in one file: the outbox in a JSON file, for a service and its relay in one process.
//!
//! It is as naive as a right storage can be. There is one shard, every change rewrites the whole file (a temporary file,
//! `fsync`, rename), and one mutex makes every change a transaction. What it keeps is the contract of the ports: the
//! conformance suite in `tests/conformance.rs` says so. `docs/custom-storage.md` goes through it. It is for few messages.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use outbox_core::message::LaneKey;
use outbox_core::ports::*;
use outbox_core::{Headers, Limits, Message, NewMessage};
use serde::{Deserialize, Serialize};
use time::{OffsetDateTime, UtcOffset};
use uuid::Uuid;

const SHARD: ShardId = ShardId(0);

/// An outbox in a JSON file. Clones share it; one process may open the file at a time.
#[derive(Debug, Clone)]
pub struct JsonFileStorage {
    path: Arc<Path>,
    tables: Arc<Mutex<Tables>>,
}

/// What is in the file.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Tables {
    last_seq: i64,
    messages: BTreeMap<i64, Row>,
    dead_letters: BTreeMap<i64, DeadRow>,
    parked_keys: BTreeSet<(String, String)>,
    lease: LeaseRow,
    /// When each relay was seen last, and whether it wants shards.
    relays: BTreeMap<Uuid, (OffsetDateTime, bool)>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Row {
    id: Uuid,
    aggregate_type: String,
    aggregate_id: Option<String>,
    event_type: String,
    payload: Vec<u8>,
    content_type: String,
    headers: BTreeMap<String, String>,
    occurred_at: OffsetDateTime,
    wake_at: Option<OffsetDateTime>,
    attempts: u32,
    last_error: Option<String>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct DeadRow {
    row: Row,
    /// Whether it parked its key.
    parks: bool,
    reason: String,
    error: String,
    outcome_unknown: bool,
    died_at: OffsetDateTime,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct LeaseRow {
    owner: Option<Uuid>,
    epoch: i64,
    expires_at: Option<OffsetDateTime>,
    control_version: i64,
}

impl JsonFileStorage {
    /// Opens the file, or starts a new one.
    ///
    /// # Errors
    ///
    /// When the file cannot be read or holds something else.
    pub fn open(path: &Path) -> Result<Self, StorageError> {
        let tables = match fs::read(path) {
            Ok(bytes) => serde_json::from_slice(&bytes).map_err(|error| {
                let text = format!("{} holds no outbox: name another file", path.display());
                StorageError::new(StorageErrorKind::Refused, text).with_source(error)
            })?,
            Err(error) if error.kind() == ErrorKind::NotFound => Tables::default(),
            Err(error) => return Err(io_error("read", path, error)),
        };
        Ok(Self { path: path.into(), tables: Arc::new(Mutex::new(tables)) })
    }

    /// Appends messages in one transaction. With them a real service would write its own data, in the same call.
    ///
    /// # Errors
    ///
    /// A message over a limit, or a [`StorageError`] when the file cannot be written.
    pub fn append(&self, messages: &[NewMessage]) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        messages.iter().try_for_each(|message| Limits::default().check(message))?;
        Ok(self.change(|tables, now| messages.iter().for_each(|message| tables.insert(message, now)))?)
    }

    /// The `seq`, id and failed attempts of every pending message.
    pub fn pending(&self) -> Vec<(i64, Uuid, u32)> {
        self.lock().messages.iter().map(|(&seq, row)| (seq, row.id, row.attempts)).collect()
    }

    /// Changes the tables and writes the file: all of it or nothing.
    fn change<T>(&self, change: impl FnOnce(&mut Tables, OffsetDateTime) -> T) -> Result<T, StorageError> {
        let mut tables = self.lock();
        let mut next = tables.clone();
        let result = change(&mut next, OffsetDateTime::now_utc());
        write(&self.path, &next).map_err(|error| io_error("write", &self.path, error))?;
        *tables = next;
        Ok(result)
    }

    fn lock(&self) -> MutexGuard<'_, Tables> {
        self.tables.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Storage for JsonFileStorage {
    async fn check(&self) -> Result<StorageProfile, StorageError> {
        self.change(|_, _| ())?; // finds out whether the file can be written
        Ok(StorageProfile { shards: 1, server: "JSON file".to_owned() })
    }

    async fn reader(&self) -> Result<Box<dyn Reader>, StorageError> {
        let (returned, swept) = (HashSet::new(), 0);
        Ok(Box::new(JsonFileReader { storage: self.clone(), assigned: false, floor: 0, returned, swept }))
    }

    fn leases(&self) -> &dyn Leases {
        self
    }

    fn settler(&self) -> &dyn Settler {
        self
    }

    fn admin(&self) -> &dyn Admin {
        self
    }

    async fn notifier(&self) -> Result<Option<Box<dyn Notifier>>, StorageError> {
        Ok(None) // polling is always right
    }
}

/// Messages get their `seq` at the commit, under the mutex: `seq` order is commit order. So whatever lies at or below the
/// floor was returned, but for rows that waited.
struct JsonFileReader {
    storage: JsonFileStorage,
    assigned: bool,
    floor: i64,
    /// Rows that waited below the floor and were returned when they were due.
    returned: HashSet<(i64, Option<OffsetDateTime>)>,
    swept: i64,
}

#[async_trait]
impl Reader for JsonFileReader {
    fn assign(&mut self, shards: &[ShardId]) {
        let assigned = shards.contains(&SHARD);
        if assigned != self.assigned {
            self.assigned = assigned;
            self.floor = 0;
            self.returned.clear();
        }
    }

    fn rewind(&mut self, shard: ShardId, from_seq: i64) {
        if shard == SHARD {
            self.floor = self.floor.min(from_seq.saturating_sub(1).max(0));
            self.returned.retain(|(seq, _)| *seq < from_seq);
        }
    }

    async fn read(&mut self, limits: &ReadLimits) -> Result<Batch, StorageError> {
        let mut batch = Batch::default();
        if !self.assigned {
            return Ok(batch);
        }
        let now = OffsetDateTime::now_utc();
        let storage = self.storage.clone();
        let tables = storage.lock();
        self.returned.retain(|(seq, _)| tables.messages.contains_key(seq));
        batch.leases.push(tables.lease.lease());
        for (&seq, row) in &tables.messages {
            let is_hot = seq > self.floor;
            if row.wake_at.is_some_and(|wake_at| wake_at > now) {
                let due_in = row.wake_at.and_then(|wake_at| (wake_at - now).try_into().ok());
                batch.next_due_in = batch.next_due_in.into_iter().chain(due_in).min();
                let lane = row.lane().filter(|_| is_hot && row.attempts > 0); // a scheduled message holds nothing
                batch.held.extend(lane.map(|lane| HeldHead { position: row.position(seq), lane }));
                self.floor = self.floor.max(seq);
                continue;
            }
            let waited = (seq, row.wake_at);
            if !is_hot && (row.wake_at.is_none() || self.returned.contains(&waited)) {
                continue; // it was returned
            }
            if !take(&mut batch, limits, seq, row) {
                break;
            }
            self.returned.extend(row.wake_at.map(|_| waited));
            self.floor = self.floor.max(seq);
        }
        Ok(batch)
    }

    async fn sweep(&mut self, limits: &ReadLimits) -> Result<Batch, StorageError> {
        let mut batch = Batch::default();
        let now = OffsetDateTime::now_utc();
        let tables = self.storage.lock();
        let below = if self.assigned { self.floor } else { 0 };
        batch.leases.extend(self.assigned.then(|| tables.lease.lease()));
        let from = std::mem::take(&mut self.swept); // starts again unless a limit cuts this piece
        for (&seq, row) in tables.messages.range(from..).take_while(|(seq, _)| **seq <= below) {
            let is_waiting = row.wake_at.is_some_and(|wake_at| wake_at > now);
            if !is_waiting && !take(&mut batch, limits, seq, row) {
                self.swept = seq;
                break;
            }
        }
        Ok(batch)
    }
}

/// Takes a row; `false`: a limit is in the way.
fn take(batch: &mut Batch, limits: &ReadLimits, seq: i64, row: &Row) -> bool {
    if row.payload.len() > limits.max_message_bytes {
        let (position, lane) = (row.position(seq), row.lane());
        batch.refused.push(Refused { position, lane, reason: DeadReason::TooLarge });
        return true;
    }
    let bytes: usize = batch.messages.iter().map(|message| message.payload.as_ref().len()).sum();
    let is_over_bytes = bytes + row.payload.len() > limits.bytes && !batch.messages.is_empty();
    batch.more = is_over_bytes || batch.messages.len() >= limits.rows;
    if !batch.more {
        batch.messages.push(row.to_message(seq));
    }
    !batch.more
}

#[async_trait]
impl Leases for JsonFileStorage {
    async fn heartbeat(&self, relay: &RelayId, lease: Duration, accepting: bool) -> Result<Heartbeat, StorageError> {
        self.change(|tables, now| {
            tables.relays.insert(relay.owner, (now, accepting));
            let wants = |(seen_at, accepting): &&(OffsetDateTime, bool)| *accepting && *seen_at + lease > now;
            let accepting_relays = tables.relays.values().filter(wants).count();
            let row = &mut tables.lease;
            let is_held = row.owner == Some(relay.owner) && row.expires_at > Some(now);
            if is_held {
                row.expires_at = Some(now + lease);
            }
            Heartbeat { held: is_held.then(|| row.lease()).into_iter().collect(), accepting_relays }
        })
    }

    async fn acquire(&self, relay: &RelayId, lease: Duration, limit: usize) -> Result<Vec<Lease>, StorageError> {
        self.change(|tables, now| {
            let row = &mut tables.lease;
            if limit == 0 || (row.owner.is_some() && row.expires_at > Some(now)) {
                return Vec::new();
            }
            row.owner = Some(relay.owner);
            row.expires_at = Some(now + lease);
            row.epoch += 1;
            vec![row.lease()]
        })
    }

    async fn release(&self, relay: &RelayId, leases: &[Lease]) -> Result<(), StorageError> {
        self.change(|tables, _| {
            let is_given_back = leases.iter().any(|lease| tables.lease.stands(relay.owner, lease));
            tables.lease.owner = tables.lease.owner.filter(|_| !is_given_back);
        })
    }

    async fn resign(&self, relay: &RelayId) -> Result<(), StorageError> {
        self.change(|tables, _| {
            tables.relays.remove(&relay.owner);
            tables.lease.owner = tables.lease.owner.filter(|owner| *owner != relay.owner);
        })
    }
}

#[async_trait]
impl Settler for JsonFileStorage {
    async fn settle(&self, delivered: &[Position]) -> Result<(), StorageError> {
        self.change(|tables, _| delivered.iter().for_each(|position| drop(tables.remove(position))))
    }

    async fn retry_later(&self, owner: Uuid, lease: &Lease, mark: &FailureMark) -> Result<Fenced, StorageError> {
        self.change(|tables, now| {
            if !tables.lease.stands(owner, lease) {
                return Fenced::Lost;
            }
            if let Some(row) = tables.row(&mark.position) {
                row.attempts = mark.attempts;
                row.wake_at = Some(now + mark.delay);
                row.last_error = Some(shortened(&mark.error));
            }
            Fenced::Done
        })
    }

    async fn bury(&self, owner: Uuid, lease: &Lease, burial: &Burial) -> Result<Fenced, StorageError> {
        self.change(|tables, now| {
            if !tables.lease.stands(owner, lease) {
                return Fenced::Lost;
            }
            let Some(mut row) = tables.remove(&burial.position) else { return Fenced::Done };
            row.attempts = burial.attempts;
            let parks = burial.park_key && row.key().is_some_and(|key| tables.parked_keys.insert(key));
            let (reason, outcome_unknown) = (burial.reason.as_str().to_owned(), burial.outcome_unknown);
            let dead = DeadRow { row, parks, reason, error: shortened(&burial.error), outcome_unknown, died_at: now };
            tables.dead_letters.insert(burial.position.seq, dead);
            Fenced::Done
        })
    }

    async fn parked_keys(&self, shards: &[ShardId]) -> Result<Vec<ParkedKey>, StorageError> {
        let tables = self.lock();
        let keys = tables.parked_keys.iter().filter(|_| shards.contains(&SHARD));
        Ok(keys.map(|(kind, id)| ParkedKey { shard: SHARD, lane: LaneKey::of(kind, id) }).collect())
    }

    async fn backlog(&self) -> Result<Backlog, StorageError> {
        let now = OffsetDateTime::now_utc();
        let tables = self.lock();
        let ready = tables.messages.values().filter(|row| row.wake_at <= Some(now));
        let oldest = ready.map(|row| row.occurred_at).min();
        Ok(Backlog {
            pending: tables.messages.len() as u64,
            estimated: false,
            oldest_age: oldest.map(|oldest| Duration::try_from(now - oldest).unwrap_or_default()),
            dead_letters: tables.dead_letters.len().min(10_000) as u64,
        })
    }
}

#[async_trait]
impl Admin for JsonFileStorage {
    async fn dead_letters(&self, after_seq: i64, limit: usize) -> Result<Vec<DeadLetter>, StorageError> {
        let tables = self.lock();
        let later = tables.dead_letters.range(after_seq.saturating_add(1)..);
        Ok(later
            .take(limit)
            .map(|(&seq, dead)| DeadLetter {
                position: dead.row.position(seq),
                aggregate_type: dead.row.aggregate_type.clone(),
                aggregate_id: dead.row.aggregate_id.clone(),
                event_type: dead.row.event_type.clone(),
                reason: dead.reason.clone(),
                error: dead.error.clone(),
                attempts: dead.row.attempts,
                outcome_unknown: dead.outcome_unknown,
                died_at: dead.died_at,
            })
            .collect())
    }

    async fn replay(&self, id: Uuid) -> Result<bool, StorageError> {
        self.change(|tables, _| {
            let Some((seq, row)) = tables.exhume(id) else { return false };
            tables.messages.insert(seq, Row { attempts: 0, wake_at: None, last_error: None, ..row });
            true
        })
    }

    async fn discard(&self, id: Uuid) -> Result<bool, StorageError> {
        self.change(|tables, _| tables.exhume(id).is_some())
    }

    async fn park(&self, aggregate_type: &str, aggregate_id: &str) -> Result<bool, StorageError> {
        let key = (aggregate_type.to_owned(), aggregate_id.to_owned());
        self.change(|tables, _| {
            tables.lease.control_version += 1;
            tables.parked_keys.insert(key)
        })
    }

    async fn unpark(&self, aggregate_type: &str, aggregate_id: &str) -> Result<bool, StorageError> {
        let key = (aggregate_type.to_owned(), aggregate_id.to_owned());
        self.change(|tables, _| {
            tables.lease.control_version += 1;
            tables.parked_keys.remove(&key)
        })
    }
}

impl Tables {
    fn insert(&mut self, message: &NewMessage, now: OffsetDateTime) {
        self.last_seq += 1;
        let row = Row {
            id: message.id,
            aggregate_type: message.aggregate_type.clone(),
            aggregate_id: message.aggregate_id.clone(),
            event_type: message.event_type.clone(),
            payload: message.payload.as_ref().to_vec(),
            content_type: message.content_type.clone(),
            headers: message.headers.clone(),
            occurred_at: message.occurred_at.unwrap_or(now).to_offset(UtcOffset::UTC),
            wake_at: message.available_at,
            attempts: 0,
            last_error: None,
        };
        self.messages.insert(self.last_seq, row);
    }

    fn row(&mut self, position: &Position) -> Option<&mut Row> {
        let row = self.messages.get_mut(&position.seq)?;
        (position.shard == SHARD && row.id == position.id).then_some(row)
    }

    fn remove(&mut self, position: &Position) -> Option<Row> {
        self.row(position)?;
        self.messages.remove(&position.seq)
    }

    /// Takes a dead letter out, unparks its key unless another one parked it, and tells the owner.
    fn exhume(&mut self, id: Uuid) -> Option<(i64, Row)> {
        let seq = self.dead_letters.iter().find(|(_, dead)| dead.row.id == id).map(|(&seq, _)| seq)?;
        let row = self.dead_letters.remove(&seq)?.row;
        let waits = self.dead_letters.values().any(|other| other.parks && other.row.key() == row.key());
        if let Some(key) = row.key().filter(|_| !waits) {
            self.parked_keys.remove(&key);
        }
        self.lease.control_version += 1;
        Some((seq, row))
    }
}

impl Row {
    fn position(&self, seq: i64) -> Position {
        Position { shard: SHARD, seq, id: self.id }
    }

    fn key(&self) -> Option<(String, String)> {
        Some((self.aggregate_type.clone(), self.aggregate_id.clone()?))
    }

    fn lane(&self) -> Option<LaneKey> {
        self.aggregate_id.as_deref().map(|id| LaneKey::of(&self.aggregate_type, id))
    }

    fn to_message(&self, seq: i64) -> Message {
        Message {
            id: self.id,
            shard: SHARD,
            seq,
            aggregate_type: self.aggregate_type.clone(),
            aggregate_id: self.aggregate_id.clone(),
            event_type: self.event_type.clone(),
            payload: self.payload.clone().into(),
            content_type: self.content_type.clone(),
            headers: Headers::from_map(&self.headers),
            occurred_at: self.occurred_at,
            attempts: self.attempts,
        }
    }
}

impl LeaseRow {
    fn lease(&self) -> Lease {
        Lease { shard: SHARD, epoch: self.epoch, control_version: self.control_version }
    }

    fn stands(&self, owner: Uuid, lease: &Lease) -> bool {
        lease.shard == SHARD && self.owner == Some(owner) && self.epoch == lease.epoch
    }
}

fn shortened(error: &str) -> String {
    error.chars().take(2_000).collect()
}

/// Replaces the file as a whole: a crash leaves the old one or the new one.
fn write(path: &Path, tables: &Tables) -> std::io::Result<()> {
    let next = path.with_extension("next");
    let mut file = File::create(&next)?;
    file.write_all(&serde_json::to_vec(tables)?)?;
    file.sync_all()?;
    fs::rename(&next, path)?;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder)?.sync_all() // makes the rename durable
}

fn io_error(action: &str, path: &Path, error: std::io::Error) -> StorageError {
    let is_full = matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded);
    let kind = if is_full { StorageErrorKind::Exhausted } else { StorageErrorKind::Other };
    StorageError::new(kind, format!("cannot {action} {}", path.display())).with_source(error)
}
