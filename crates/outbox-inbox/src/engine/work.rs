use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use outbox_core::inbox::{
    Aside, Candidate, Fate, Identity, InboxDeadReason, InboxStorage, Incoming, OrderingKey, Partition, Standing,
};
use outbox_core::relay::DeadLetterPolicy;

use super::Context;
use super::sequences::Place;
use crate::Delivery;

/// A received message on its way through the engine.
#[derive(Debug)]
pub(super) struct Work {
    pub(super) partition: Partition,
    pub(super) position: i64,
    pub(super) assignment: Arc<AssignmentId>,
    pub(super) message: Read,
    pub(super) size_bytes: usize,
    /// Its place among those of its key, when somebody wants to know.
    pub(super) place: Option<Place>,
    /// How it stood when it was admitted the last time, in a transaction whose end is known.
    pub(super) standing: Option<Standing>,
}

/// One assignment of a partition.
#[derive(Debug)]
pub(super) struct AssignmentId {
    pub(super) number: u64,
    is_gone: AtomicBool,
}

impl AssignmentId {
    pub(super) fn new(number: u64) -> Arc<Self> {
        Arc::new(Self { number, is_gone: AtomicBool::new(false) })
    }

    /// The partition was taken away: what has not begun of it must not begin.
    pub(super) fn end(&self) {
        self.is_gone.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_gone(&self) -> bool {
        self.is_gone.load(Ordering::Relaxed)
    }
}

/// A message whose envelope was read.
#[derive(Debug)]
pub(super) enum Read {
    Delivery(Box<Delivery>),
    /// It cannot be processed, whatever the handlers are.
    Dead(Box<Unreadable>),
}

/// A message that becomes a dead letter as it is.
#[derive(Debug)]
pub(super) struct Unreadable {
    pub(super) incoming: Incoming,
    pub(super) identity: Option<Identity>,
    pub(super) key: Option<OrderingKey>,
    pub(super) reason: InboxDeadReason,
    pub(super) error: String,
}

impl Read {
    pub(super) fn key(&self) -> Option<&OrderingKey> {
        match self {
            Self::Delivery(delivery) => delivery.key.as_ref(),
            Self::Dead(unreadable) => unreadable.key.as_ref(),
        }
    }

    pub(super) fn has_identity(&self) -> bool {
        match self {
            Self::Delivery(_) => true,
            Self::Dead(unreadable) => unreadable.identity.is_some(),
        }
    }

    pub(super) fn place(&self) -> Option<Place> {
        match self {
            Self::Delivery(delivery) => Place::of(delivery),
            Self::Dead(_) => None,
        }
    }

    pub(super) fn candidate(&self) -> Option<Candidate> {
        let identity = match self {
            Self::Delivery(delivery) => Some(delivery.identity.clone()),
            Self::Dead(unreadable) => unreadable.identity.clone(),
        }?;
        Some(Candidate { identity, key: self.key().cloned() })
    }
}

/// Reads a message's envelope. A decoder or a function of the user that panics over it must not stop the partition for ever.
pub(super) fn read<S: InboxStorage>(context: &Context<S>, incoming: Incoming) -> Read {
    let dead = |incoming, identity, key, reason, error: String| {
        Read::Dead(Box::new(Unreadable { incoming, identity, key, reason, error }))
    };
    let record_key = incoming.key.as_ref().filter(|key| !key.as_ref().is_empty());
    let record_key = record_key.map(|key| OrderingKey::of(&incoming.partition.stream, key.as_ref()));
    let derived = |incoming: &Incoming| context.derive.as_ref().and_then(|derive| derive(incoming));
    let envelope = match unless_it_panics("the decoder", || context.decoder.decode(&incoming)) {
        Ok(Ok(envelope)) => envelope,
        Ok(Err(invalid)) => return dead(incoming, None, record_key, InboxDeadReason::Undecodable, invalid.to_string()),
        Err(panicked) => return dead(incoming, None, record_key, InboxDeadReason::Undecodable, panicked),
    };
    let key = envelope.key.as_deref().map(|key| OrderingKey::of(&incoming.partition.stream, key));
    let identity = match (envelope.source, envelope.id) {
        (Some(source), Some(id)) => match Identity::new(source, id) {
            Ok(identity) => Some(identity),
            Err(invalid) => return dead(incoming, None, key, InboxDeadReason::Undecodable, invalid.to_string()),
        },
        _ => match unless_it_panics("the function that derives identities", || derived(&incoming)) {
            Ok(identity) => identity,
            Err(panicked) => return dead(incoming, None, key, InboxDeadReason::Undecodable, panicked),
        },
    };
    let Some(identity) = identity else {
        let error = "the message carries no id or no source, and none is derived".to_owned();
        return dead(incoming, None, key, InboxDeadReason::NoId, error);
    };
    let size = incoming.size_bytes();
    if size > context.config.max_message_bytes {
        let error = format!("the message has {size} bytes, max_message_bytes is {}", context.config.max_message_bytes);
        return dead(incoming, Some(identity), key, InboxDeadReason::TooLarge, error);
    }
    Read::Delivery(Box::new(Delivery {
        identity,
        event_type: envelope.event_type,
        key,
        content_type: envelope.content_type,
        payload: envelope.payload,
        time: envelope.time,
        subject: envelope.subject,
        sequence: envelope.sequence,
        attempts: 0,
        incoming,
    }))
}

/// The panic's own text may quote the message, and is not kept.
fn unless_it_panics<T>(what: &str, call: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(call)).map_err(|_| format!("{what} panicked"))
}

impl Unreadable {
    pub(super) fn aside(&self, policy: DeadLetterPolicy) -> Aside {
        let fate = dead(0, self.reason, self.error.clone(), policy);
        Aside { identity: self.identity.clone(), key: self.key.clone(), incoming: self.incoming.clone(), fate }
    }
}

/// A delivery that is put aside.
pub(super) fn aside(delivery: &Delivery, fate: Fate) -> Aside {
    let (identity, key) = (Some(delivery.identity.clone()), delivery.key.clone());
    Aside { identity, key, incoming: delivery.incoming.clone(), fate }
}

pub(super) fn dead(attempts: u32, reason: InboxDeadReason, error: String, policy: DeadLetterPolicy) -> Fate {
    Fate::Dead { attempts, reason, error, park_key: policy == DeadLetterPolicy::ParkKey }
}
