use std::sync::Arc;
use std::time::Duration;

use outbox_core::inbox::{
    Admission, Aside, Candidate, ClaimToken, Committed, Consumer, Fate, HeldMessage, HeldQueue, Identity, InboxAdmin,
    InboxDeadLetter, InboxDeadReason, InboxMemory, InboxStorage, InboxTransaction, Incoming, IncomingHeaders,
    OrderingKey, ParkedBy, Partition, Standing, TransactionLimits,
};
use uuid::Uuid;

use super::InboxDatabase;
use crate::BoxError;
use crate::case::chain;

/// A lease, or a delay, that outlives every case.
pub(super) const LONG: Duration = Duration::from_secs(600);

/// Limits that no case reaches.
pub(super) const LIMITS: TransactionLimits =
    TransactionLimits { statement: Duration::from_secs(20), lock: Duration::from_secs(20) };

/// The storage under test, on a database of its own.
pub(super) struct Subject<S: InboxStorage> {
    pub(super) database: Box<dyn InboxDatabase<S>>,
    pub(super) storage: Arc<S>,
    pub(super) consumer: Consumer,
}

impl<S: InboxStorage> Subject<S> {
    pub(super) fn new(database: Box<dyn InboxDatabase<S>>) -> Self {
        Self { storage: database.storage(), database, consumer: consumer("billing") }
    }

    pub(super) fn held(&self) -> &dyn HeldQueue {
        self.storage.held()
    }

    pub(super) fn memory(&self) -> &dyn InboxMemory {
        self.storage.memory()
    }

    pub(super) fn admin(&self) -> &dyn InboxAdmin {
        self.storage.admin()
    }

    pub(super) async fn begin(&self) -> S::Transaction {
        self.storage.begin(&self.consumer, &LIMITS).await.expect("begin")
    }

    pub(super) async fn begin_as(&self, consumer: &Consumer) -> S::Transaction {
        self.storage.begin(consumer, &LIMITS).await.expect("begin")
    }

    /// Admits in a transaction that is rolled back: how messages stand now.
    pub(super) async fn look(&self, candidates: &[Candidate]) -> Admission {
        let mut transaction = self.begin().await;
        let admission = transaction.admit(candidates).await.expect("admit");
        transaction.rollback().await;
        admission
    }

    /// How one message stands now.
    pub(super) async fn standing(&self, id: &str) -> Standing {
        self.look(&[candidate(id, None)]).await.standings[0]
    }

    /// Whether a key is parked now.
    pub(super) async fn is_parked(&self, name: &str) -> bool {
        let parked = self.look(&[candidate("looks-for-a-key", Some(name))]).await.parked;
        parked.contains(&key(name))
    }

    /// Why a key is parked, as operators see it.
    pub(super) async fn parked_by(&self, name: &str) -> Option<ParkedBy> {
        let keys = self.admin().parked_keys(&self.consumer, None, 1_000).await.expect("parked_keys");
        keys.into_iter().find(|parked| parked.key == key(name)).map(|parked| parked.by)
    }

    /// Processes messages in one transaction, each with an effect that is its id.
    pub(super) async fn process(&self, candidates: &[Candidate]) {
        let mut transaction = self.begin().await;
        let admission = transaction.admit(candidates).await.expect("admit");
        for (candidate, standing) in candidates.iter().zip(admission.standings) {
            assert_eq!(standing, Standing::New, "{candidate:?}");
            self.apply(&mut transaction, candidate.identity.id()).await;
        }
        assert_eq!(transaction.commit().await.expect("commit"), Committed::Done);
    }

    pub(super) async fn apply(&self, transaction: &mut S::Transaction, effect: &str) {
        fixture("apply", self.database.apply(transaction.connection(), effect).await);
    }

    /// Admits and puts aside, in one transaction.
    pub(super) async fn put_aside(&self, messages: &[Aside]) {
        let candidates: Vec<_> = messages.iter().filter_map(as_candidate).collect();
        let mut transaction = self.begin().await;
        let admission = transaction.admit(&candidates).await.expect("admit");
        assert!(admission.standings.iter().all(|standing| *standing == Standing::New), "{admission:?}");
        transaction.put_aside(messages).await.expect("put_aside");
        assert_eq!(transaction.commit().await.expect("commit"), Committed::Done);
    }

    pub(super) async fn claim(&self, limit: usize) -> (ClaimToken, Vec<HeldMessage>) {
        let claim = token();
        (claim, self.held().claim(&self.consumer, claim, LONG, limit).await.expect("claim"))
    }

    /// Claims again and again until nothing comes, and gives the claims back; each id in the order in which it came.
    pub(super) async fn claimable(&self) -> Vec<String> {
        let mut ids = Vec::new();
        let mut claims = Vec::new();
        loop {
            let (claim, messages) = self.claim(100).await;
            claims.push(claim);
            if messages.is_empty() {
                break;
            }
            ids.extend(messages.iter().map(id_of));
        }
        for claim in claims {
            self.held().release(&self.consumer, claim, &[]).await.expect("release");
        }
        ids
    }

    pub(super) async fn dead_letters(&self) -> Vec<InboxDeadLetter> {
        self.admin().dead_letters(&self.consumer, 0, 1_000).await.expect("dead_letters")
    }

    pub(super) async fn effects(&self) -> Vec<String> {
        let mut effects = fixture("effects", self.database.effects().await);
        effects.sort_unstable();
        effects
    }
}

pub(super) fn consumer(name: &str) -> Consumer {
    Consumer::new(name).expect("a valid name")
}

pub(super) fn identity(id: &str) -> Identity {
    Identity::new("/shop", id).expect("a valid identity")
}

pub(super) fn key(name: &str) -> OrderingKey {
    OrderingKey::of("order", name.as_bytes())
}

pub(super) fn candidate(id: &str, key_name: Option<&str>) -> Candidate {
    Candidate { identity: identity(id), key: key_name.map(key) }
}

pub(super) fn token() -> ClaimToken {
    ClaimToken(Uuid::new_v4())
}

/// A message that was put aside, with a payload that is its id.
pub(super) fn aside(id: &str, key_name: Option<&str>, fate: Fate) -> Aside {
    Aside { identity: Some(identity(id)), key: key_name.map(key), incoming: incoming(id), fate }
}

pub(super) fn failed(delay: Duration) -> Fate {
    Fate::Failed { attempts: 1, delay, error: "the card was refused".to_owned() }
}

pub(super) fn dead(reason: InboxDeadReason, park_key: bool) -> Fate {
    Fate::Dead { attempts: 3, reason, error: "no use".to_owned(), park_key }
}

pub(super) fn incoming(id: &str) -> Incoming {
    Incoming {
        partition: Partition::new("order", 3),
        position: 41,
        key: Some(b"7".to_vec().into()),
        headers: IncomingHeaders::default(),
        payload: Some(id.as_bytes().to_vec().into()),
        timestamp: None,
        redelivered: false,
    }
}

pub(super) fn id_of(message: &HeldMessage) -> String {
    message.identity.as_ref().map_or_else(|| "none".to_owned(), |identity| identity.id().to_owned())
}

fn as_candidate(aside: &Aside) -> Option<Candidate> {
    Some(Candidate { identity: aside.identity.clone()?, key: aside.key.clone() })
}

/// # Panics
///
/// When the fixture failed.
pub(super) fn fixture<T>(what: &str, result: Result<T, BoxError>) -> T {
    result.unwrap_or_else(|error| panic!("the fixture's {what} failed: {}", chain(&*error)))
}
