use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use outbox_core::message::{Message, NewMessage};
use outbox_core::ports::{Admin, Lease, Leases, RelayId, Settler, ShardId, Storage, StorageProfile};
use time::OffsetDateTime;
use uuid::Uuid;

use super::scan::Scan;
use super::{PendingRow, TestDatabase, TestTransaction};
use crate::BoxError;
use crate::case::{Patience, chain};

/// A lease that outlives every case.
pub(super) const LONG: Duration = Duration::from_secs(600);

/// The storage under test, on a database of its own.
pub(crate) struct Subject {
    pub(super) database: Box<dyn TestDatabase>,
    pub(super) storage: Arc<dyn Storage>,
    pub(super) shards: u16,
}

impl Subject {
    pub(super) fn new(database: Box<dyn TestDatabase>, profile: &StorageProfile) -> Self {
        Self { storage: database.storage(), database, shards: profile.shards }
    }

    pub(super) fn all_shards(&self) -> Vec<ShardId> {
        (0..self.shards).map(ShardId).collect()
    }

    pub(super) fn leases(&self) -> &dyn Leases {
        self.storage.leases()
    }

    pub(super) fn settler(&self) -> &dyn Settler {
        self.storage.settler()
    }

    pub(super) fn admin(&self) -> &dyn Admin {
        self.storage.admin()
    }

    /// Begins a transaction of a service.
    pub(super) async fn begin(&self) -> Writer {
        Writer(fixture("begin", self.database.begin().await))
    }

    /// Appends in one transaction and commits it.
    pub(super) async fn commit(&self, messages: &[NewMessage]) {
        let mut writer = self.begin().await;
        for message in messages {
            writer.append(message).await;
        }
        writer.commit().await;
    }

    /// Commits the messages and reads them back with a reader of its own, in the order given.
    pub(super) async fn commit_and_read(&self, messages: &[NewMessage]) -> Vec<Message> {
        self.commit(messages).await;
        let mut scan = self.scan().await;
        let ids = messages.each_id();
        scan.until_seen(&ids).await;
        let mut by_id: HashMap<_, _> = scan.seen.drain(..).map(|message| (message.id, message)).collect();
        ids.iter().map(|id| by_id.remove(id).expect("each id was seen and given once")).collect()
    }

    /// A new reader on all shards.
    pub(super) async fn scan(&self) -> Scan {
        let reader = self.storage.reader().await.expect("a reader");
        Scan::new(reader, &self.all_shards())
    }

    /// The rows of the messages table by `seq`.
    pub(super) async fn pending(&self) -> Vec<PendingRow> {
        let mut rows = fixture("pending", self.database.pending().await);
        rows.sort_by_key(|row| row.seq);
        rows
    }

    pub(super) async fn pending_ids(&self) -> Vec<Uuid> {
        self.pending().await.into_iter().map(|row| row.id).collect()
    }

    /// The database's clock.
    pub(super) async fn now(&self) -> OffsetDateTime {
        fixture("now", self.database.now().await)
    }

    /// A fresh relay that owns all shards for [`LONG`].
    pub(super) async fn owner(&self) -> Owner {
        self.own_as(relay("owner")).await
    }

    /// Takes all shards for [`LONG`] as this relay.
    pub(super) async fn own_as(&self, relay: RelayId) -> Owner {
        let mut leases = BTreeMap::new();
        let patience = Patience::new();
        while leases.len() < usize::from(self.shards) {
            let taken = self.leases().acquire(&relay, LONG, usize::from(self.shards)).await.expect("acquire");
            leases.extend(taken.into_iter().map(|lease| (lease.shard, lease)));
            if leases.len() < usize::from(self.shards) {
                patience.wait(|| format!("{} of {} shards acquired", leases.len(), self.shards)).await;
            }
        }
        Owner { id: relay.owner, relay, leases }
    }

    /// `count` keys of aggregate type `order` that live in one shard; nothing of them is left in the database.
    pub(super) async fn keys_of_one_shard(&self, count: usize) -> Vec<String> {
        let candidates = usize::from(self.shards) * (count - 1) + 1; // the pigeonhole principle: one shard gets `count`
        let probes: Vec<_> = (0..candidates).map(|n| keyed(&format!("key-{n}"), 0)).collect();
        let messages = self.commit_and_read(&probes).await;
        let positions: Vec<_> = messages.iter().map(Message::position).collect();
        self.settler().settle(&positions).await.expect("settle");
        let mut by_shard: BTreeMap<ShardId, Vec<String>> = BTreeMap::new();
        for message in messages {
            by_shard.entry(message.shard).or_default().extend(message.aggregate_id);
        }
        let mut keys = by_shard.into_values().find(|keys| keys.len() >= count).expect("more keys than shards");
        keys.truncate(count);
        keys
    }
}

/// A transaction of a service.
pub(super) struct Writer(Box<dyn TestTransaction>);

impl Writer {
    pub(super) async fn append(&mut self, message: &NewMessage) {
        fixture("append", self.0.append(message).await);
    }

    pub(super) async fn commit(self) {
        fixture("commit", self.0.commit().await);
    }

    pub(super) async fn rollback(self) {
        fixture("rollback", self.0.rollback().await);
    }
}

/// A relay that owns shards.
pub(super) struct Owner {
    pub(super) id: Uuid,
    pub(super) relay: RelayId,
    pub(super) leases: BTreeMap<ShardId, Lease>,
}

impl Owner {
    pub(super) fn lease(&self, message: &Message) -> &Lease {
        &self.leases[&message.shard]
    }
}

/// The ids of messages, in their order.
pub(super) trait EachId {
    fn each_id(&self) -> Vec<Uuid>;
}

impl EachId for [NewMessage] {
    fn each_id(&self) -> Vec<Uuid> {
        self.iter().map(|message| message.id).collect()
    }
}

impl EachId for [Message] {
    fn each_id(&self) -> Vec<Uuid> {
        self.iter().map(|message| message.id).collect()
    }
}

/// A fresh run of a relay.
pub(super) fn relay(name: &str) -> RelayId {
    RelayId { owner: Uuid::new_v4(), name: name.to_owned() }
}

/// Message number `n` of a key.
pub(super) fn keyed(key: &str, n: usize) -> NewMessage {
    NewMessage::new("order", "order.changed", n.to_string().into_bytes()).aggregate_id(key)
}

/// Messages number 0 to `count` of a key.
pub(super) fn run_of(key: &str, count: usize) -> Vec<NewMessage> {
    (0..count).map(|n| keyed(key, n)).collect()
}

/// # Panics
///
/// When the fixture failed.
fn fixture<T>(what: &str, result: Result<T, BoxError>) -> T {
    result.unwrap_or_else(|error| panic!("the fixture's {what} failed: {}", chain(&*error)))
}
