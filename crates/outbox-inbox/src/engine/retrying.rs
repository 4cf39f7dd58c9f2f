//! Messages that the database held: processed under a claim, in one transaction when all goes well, one by one otherwise.

use std::collections::BTreeSet;
use std::sync::Arc;

use outbox_core::inbox::{
    Candidate, ClaimToken, Committed, HeldBurial, HeldFailure, HeldMessage, InboxDeadReason, InboxStorage,
    InboxTransaction, OrderingKey, Standing,
};
use outbox_core::ports::{Fenced, StorageError};
use outbox_core::relay::DeadLetterPolicy;

use super::Context;
use super::applying::{Applied, Ended, MAX_CONFLICTS, apply, give_up, roll_back};
use super::work::{Read, Unreadable, read};
use crate::Delivery;
use crate::defect::has_defect;
use crate::stats::add;

/// A held message that can be handled.
struct Held {
    seq: i64,
    delivery: Delivery,
    /// It had no identity when it was put aside: its dedup row is inserted now.
    is_new: bool,
}

/// Why an attempt ended without a commit.
enum Stopped {
    /// Another worker has the messages.
    Lost,
    /// This message is to become a dead letter.
    Bury(InboxDeadReason, String),
    Ended(Ended),
}

/// Processes what was claimed and gives the claim back. An error means that the database could not be used: what is left is claimed again.
pub(super) async fn process<S: InboxStorage>(
    context: Arc<Context<S>>,
    claim: ClaimToken,
    messages: Vec<HeldMessage>,
) -> Result<(), StorageError> {
    let keys: BTreeSet<OrderingKey> = messages.iter().filter_map(|message| message.key.clone()).collect();
    let keys: Vec<_> = keys.into_iter().collect();
    let processed = process_all(&context, claim, messages).await;
    let release = context.storage.held().release(&context.consumer, claim, &keys);
    context.limited("releasing a claim", release).await.and(processed)
}

async fn process_all<S: InboxStorage>(
    context: &Context<S>,
    claim: ClaimToken,
    messages: Vec<HeldMessage>,
) -> Result<(), StorageError> {
    let mut open: Vec<Held> = Vec::with_capacity(messages.len());
    let (mut keys, mut blocked) = (BTreeSet::new(), BTreeSet::new());
    for message in messages {
        let HeldMessage { seq, identity, key, incoming, attempts } = message;
        if key.as_ref().is_some_and(|key| blocked.contains(key)) {
            continue;
        }
        match read(context, incoming) {
            Read::Delivery(mut delivery) => {
                keys.extend(key.clone());
                delivery.attempts = attempts;
                delivery.key = key;
                let is_new = identity.is_none();
                delivery.identity = identity.unwrap_or(delivery.identity);
                open.push(Held { seq, delivery: *delivery, is_new });
            }
            Read::Dead(unreadable) => {
                // what precedes it of its key goes first; it is claimed again
                let is_first = key.as_ref().is_none_or(|key| !keys.contains(key));
                let Unreadable { reason, error, .. } = *unreadable;
                if !is_first || !bury(context, claim, seq, attempts, reason, error).await? {
                    blocked.extend(key);
                }
            }
        }
    }
    if open.is_empty() {
        return Ok(());
    }
    if open.len() > 1 && open.iter().all(|held| context.losses.blame(held.seq).is_none()) {
        match attempt(context, claim, &open).await {
            Ok(()) => {
                context.losses.forget(open.iter().map(|held| held.seq));
                return Ok(());
            }
            Err(Stopped::Lost) => return Ok(()),
            Err(Stopped::Ended(Ended::Storage(error))) => return Err(error),
            Err(_) => add(&context.shared.counters.rolled_back, 1),
        }
    }
    let mut blocked = BTreeSet::new();
    for held in &open {
        if held.delivery.key.as_ref().is_some_and(|key| blocked.contains(key)) {
            continue;
        }
        if !process_alone(context, claim, held).await? {
            blocked.extend(held.delivery.key.clone());
        }
    }
    Ok(())
}

/// Whether its followers may go on.
async fn process_alone<S: InboxStorage>(
    context: &Context<S>,
    claim: ClaimToken,
    held: &Held,
) -> Result<bool, StorageError> {
    if let Some(failure) = context.losses.blame(held.seq) {
        return failed(context, claim, held, failure).await;
    }
    let mut conflicts = 0;
    let failure = loop {
        let stopped = match attempt(context, claim, std::slice::from_ref(held)).await {
            Ok(()) => {
                context.losses.forget([held.seq]);
                return Ok(true);
            }
            Err(stopped) => stopped,
        };
        add(&context.shared.counters.rolled_back, 1);
        match stopped {
            Stopped::Lost => return Ok(false),
            Stopped::Bury(reason, text) => {
                return bury(context, claim, held.seq, held.delivery.attempts, reason, text).await;
            }
            Stopped::Ended(Ended::Storage(error)) => return Err(error),
            Stopped::Ended(Ended::Conflict) if conflicts < MAX_CONFLICTS => {
                conflicts += 1;
                context.pause(1).await;
            }
            Stopped::Ended(Ended::Conflict) => break "other transactions were in the way again and again".to_owned(),
            Stopped::Ended(Ended::Lost(text)) => {
                context.losses.note(held.seq, text);
                // it is given back, and claimed again when the database answers
                return Err(context.connection_lost());
            }
            Stopped::Ended(Ended::Broken) => {
                break "the handler ended the transaction, or swallowed an error that did".to_owned();
            }
            Stopped::Ended(Ended::Handler(text)) => break text,
        }
    };
    failed(context, claim, held, failure).await
}

/// Writes a failed attempt down. Whether its followers may go on.
async fn failed<S: InboxStorage>(
    context: &Context<S>,
    claim: ClaimToken,
    held: &Held,
    failure: String,
) -> Result<bool, StorageError> {
    let attempts = held.delivery.attempts.saturating_add(1);
    if attempts >= context.config.max_attempts {
        let reason = InboxDeadReason::AttemptsExhausted;
        let goes_on = bury(context, claim, held.seq, attempts, reason, failure).await?;
        note_failure(context, held);
        return Ok(goes_on);
    }
    let delay = context.delay(&context.config.retry, attempts);
    let failure = HeldFailure { seq: held.seq, attempts, delay, error: failure };
    let written = context.storage.held().fail(&context.consumer, claim, &failure);
    note_fence(context, context.limited("marking a failed attempt", written).await?);
    note_failure(context, held);
    Ok(false)
}

fn note_failure<S: InboxStorage>(context: &Context<S>, held: &Held) {
    add(&context.shared.counters.failed, 1);
    context.losses.forget([held.seq]);
}

/// One transaction.
async fn attempt<S: InboxStorage>(context: &Context<S>, claim: ClaimToken, open: &[Held]) -> Result<(), Stopped> {
    let storage = |error| Stopped::Ended(Ended::of_storage(error));
    let mut transaction = context.begin().await.map_err(storage)?;
    let candidates: Vec<_> = open.iter().filter(|held| held.is_new).map(|held| as_candidate(&held.delivery)).collect();
    let mut standings = Vec::new().into_iter();
    if !candidates.is_empty() {
        let admitted = context.limited("admitting messages", transaction.admit(&candidates)).await;
        standings = admitted.map_err(storage)?.standings.into_iter();
    }
    let seqs: Vec<i64> = open.iter().map(|held| held.seq).collect();
    let fenced = context.limited("completing held messages", transaction.complete(claim, &seqs)).await;
    if fenced.map_err(storage)? == Fenced::Lost && !has_defect!(context.config, StaleWorkerCommits) {
        roll_back(context, transaction).await;
        note_fence(context, Fenced::Lost);
        return Err(Stopped::Lost);
    }
    let (mut processed, mut skipped, mut duplicates) = (0, 0, 0);
    for held in open {
        if held.is_new && standings.next() != Some(Standing::New) {
            duplicates += 1;
            continue;
        }
        match apply(context, &mut transaction, &held.delivery).await {
            Applied::Done => processed += 1,
            Applied::Skipped => skipped += 1,
            Applied::Unknown(text) => {
                roll_back(context, transaction).await;
                return Err(Stopped::Bury(InboxDeadReason::UnknownType, text));
            }
            Applied::Undecodable(text) => {
                roll_back(context, transaction).await;
                return Err(Stopped::Bury(InboxDeadReason::Undecodable, text));
            }
            Applied::Failed(trouble) => return Err(Stopped::Ended(give_up(context, transaction, trouble).await)),
        }
    }
    match context.limited("committing", transaction.commit()).await.map_err(storage)? {
        Committed::Broken => return Err(Stopped::Ended(Ended::Broken)),
        Committed::Done => {}
    }
    let counters = &context.shared.counters;
    add(&counters.transactions, 1);
    add(&counters.processed, processed);
    add(&counters.skipped, skipped);
    add(&counters.duplicates, duplicates);
    Ok(())
}

/// Whether its followers may go on.
async fn bury<S: InboxStorage>(
    context: &Context<S>,
    claim: ClaimToken,
    seq: i64,
    attempts: u32,
    reason: InboxDeadReason,
    error: String,
) -> Result<bool, StorageError> {
    let park_key = context.config.dead_letters == DeadLetterPolicy::ParkKey;
    let burial = HeldBurial { seq, attempts, reason, error, park_key };
    let buried = context.storage.held().bury(&context.consumer, claim, &burial);
    let fenced = context.limited("moving a message to the dead letters", buried).await?;
    note_fence(context, fenced);
    if fenced == Fenced::Done {
        add(&context.shared.counters.dead, 1);
    }
    Ok(fenced == Fenced::Done && !park_key)
}

fn note_fence<S: InboxStorage>(context: &Context<S>, fenced: Fenced) {
    if fenced == Fenced::Lost {
        add(&context.shared.counters.lost_claims, 1);
    }
}

fn as_candidate(delivery: &Delivery) -> Candidate {
    Candidate { identity: delivery.identity.clone(), key: delivery.key.clone() }
}
