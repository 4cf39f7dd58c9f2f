//! One worker's batch: in one transaction when all goes well, one message a transaction otherwise.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use outbox_core::inbox::{
    Admission, Aside, Committed, Fate, InboxDeadReason, InboxStorage, InboxTransaction, OrderingKey, Standing,
};
use time::OffsetDateTime;
use tokio::time::Instant;

use super::Context;
use super::applying::{Applied, Ended, MAX_CONFLICTS, apply, give_up};
use super::losses::{MAX_LOSSES, lost_text};
use super::work::{Read, Work, aside, dead};
use crate::defect::has_defect;
use crate::stats::add;
use crate::{Delivery, Mode};

/// What a worker did.
pub(super) struct Done {
    pub(super) worker: usize,
    /// What is committed.
    pub(super) committed: Vec<Work>,
    /// What was not begun, or rolled back, because its partition is taken away.
    pub(super) dropped: Vec<Work>,
    /// Whether one transaction was enough for all.
    pub(super) in_one: bool,
    /// Whether something was put aside that may be due.
    pub(super) put_aside: bool,
}

/// What a transaction did, counted after its commit.
#[derive(Default)]
struct Counts {
    processed: usize,
    duplicates: usize,
    skipped: usize,
    held: usize,
    dead: usize,
}

/// Processes a batch to its end, however long the database is away. Messages whose partition was taken away meanwhile are dropped.
pub(super) async fn process<S: InboxStorage>(context: Arc<Context<S>>, worker: usize, batch: Vec<Work>) -> Done {
    let mut open: VecDeque<Work> = batch.into();
    let mut done =
        Done { worker, committed: Vec::with_capacity(open.len()), dropped: Vec::new(), in_one: true, put_aside: false };
    let (mut away, mut conflicts, mut losses) = (0, 0, 0);
    // why the first message has failed, until that is written down
    let mut failure: Option<String> = None;
    loop {
        let (gone, rest): (Vec<_>, Vec<_>) = open.into_iter().partition(|work| work.assignment.is_gone());
        if !gone.is_empty() {
            // they may have been another message's
            (conflicts, losses, failure) = (0, 0, None);
        }
        done.dropped.extend(gone);
        open = rest.into();
        if open.is_empty() {
            return done;
        }
        let count = if done.in_one { open.len() } else { 1 };
        let ended = match attempt(&context, &mut open.make_contiguous()[..count], failure.clone()).await {
            Ok(counts) => {
                (away, conflicts, losses, failure) = (0, 0, 0, None);
                done.put_aside |= counts.held > 0;
                context.shared.database_is_well();
                done.committed.extend(open.drain(..count));
                continue;
            }
            Err(ended) => ended,
        };
        add(&context.shared.counters.rolled_back, 1);
        let is_put_aside = failure.is_some();
        let text = match ended {
            Ended::Storage(error) => {
                forget_standings(&mut open);
                away += 1;
                let what = if is_put_aside {
                    "a failed message could not be put aside"
                } else {
                    "a transaction of the inbox failed"
                };
                context.shared.database_failed(what, &error);
                context.pause(away).await;
                continue;
            }
            _ if count > 1 => {
                done.in_one = false;
                continue;
            }
            _ if is_put_aside => {
                context.pause(1).await;
                continue;
            }
            Ended::Conflict if conflicts < MAX_CONFLICTS => {
                done.in_one = false;
                conflicts += 1;
                context.pause(1).await;
                continue;
            }
            Ended::Lost(_) if losses < MAX_LOSSES => {
                done.in_one = false;
                losses += 1;
                drop(context.connection_lost());
                context.pause(losses).await;
                continue;
            }
            Ended::Conflict => "other transactions were in the way again and again".to_owned(),
            Ended::Lost(text) => lost_text(&text),
            Ended::Broken => "the handler ended the transaction, or swallowed an error that did".to_owned(),
            Ended::Handler(text) => text,
        };
        done.in_one = false;
        add(&context.shared.counters.failed, 1);
        failure = Some(text);
    }
}

/// The transaction may have committed: how its messages stand is not known.
fn forget_standings(works: &mut VecDeque<Work>) {
    works.iter_mut().for_each(|work| work.standing = None);
}

/// Notes how messages stand. One that a rolled back transaction found new was not processed by it.
fn note_standings<S: InboxStorage>(context: &Context<S>, works: &mut [Work], standings: Vec<Standing>) {
    let mut standings = standings.into_iter();
    for work in works {
        let standing = if work.message.has_identity() { standings.next() } else { Some(Standing::New) };
        let was_new = work.standing.replace(standing.unwrap_or(Standing::Processed)) == Some(Standing::New);
        if was_new && work.standing != Some(Standing::New) {
            add(&context.shared.counters.overtaken, 1);
            let (partition, position) = (&work.partition, work.position);
            tracing::warn!(
                %partition,
                position,
                "a message that was rolled back is processed: another consumer had it, or a handler has ended the transaction itself"
            );
        }
    }
}

/// One transaction. With a `failure`, of one message whose handler failed: it is put aside instead of being handled.
async fn attempt<S: InboxStorage>(
    context: &Context<S>,
    works: &mut [Work],
    failure: Option<String>,
) -> Result<Counts, Ended> {
    let began = Instant::now();
    let candidates: Vec<_> = works.iter().filter_map(|work| work.message.candidate()).collect();
    let mut transaction = context.begin().await.map_err(Ended::of_storage)?;
    let admitted = context.limited("admitting messages", transaction.admit(&candidates)).await;
    let Admission { standings, mut parked, horizon } = admitted.map_err(Ended::of_storage)?;
    note_standings(context, works, standings);
    let works = &*works;
    if has_defect!(context.config, DedupOutsideTransaction) {
        commit(context, transaction).await?;
        transaction = context.begin().await.map_err(Ended::of_storage)?;
    }
    let (mut counts, mut asides) = (Counts::default(), Vec::new());
    for work in works {
        if work.standing != Some(Standing::New) {
            counts.duplicates += 1;
            continue;
        }
        let delivery = match &work.message {
            Read::Dead(unreadable) => {
                put_aside(unreadable.aside(context.config.dead_letters), &mut asides, &mut parked, &mut counts);
                continue;
            }
            Read::Delivery(delivery) => delivery,
        };
        let fate = match judge(context, delivery, &parked, horizon, failure.as_deref()) {
            Some(fate) => Some(fate),
            None => match apply(context, &mut transaction, delivery).await {
                Applied::Done => {
                    counts.processed += 1;
                    None
                }
                Applied::Skipped => {
                    counts.skipped += 1;
                    None
                }
                Applied::Unknown(text) => Some(buried(context, InboxDeadReason::UnknownType, text)),
                Applied::Undecodable(text) => Some(buried(context, InboxDeadReason::Undecodable, text)),
                Applied::Failed(trouble) => return Err(give_up(context, transaction, trouble).await),
            },
        };
        if let Some(fate) = fate {
            put_aside(aside(delivery, fate), &mut asides, &mut parked, &mut counts);
        }
    }
    if !asides.is_empty() && !has_defect!(context.config, ReceivedAsProcessed) {
        let kept = context.limited("putting messages aside", transaction.put_aside(&asides)).await;
        kept.map_err(Ended::of_storage)?;
    }
    commit(context, transaction).await?;
    counts.publish(context, began, works.len());
    Ok(counts)
}

async fn commit<S: InboxStorage>(context: &Context<S>, transaction: S::Transaction) -> Result<(), Ended> {
    match context.limited("committing", transaction.commit()).await {
        Ok(Committed::Done) => Ok(()),
        Ok(Committed::Broken) => Err(Ended::Broken),
        Err(error) => Err(Ended::of_storage(error)),
    }
}

/// What becomes of a new message without a call of its handler; `None`: its handler is called.
fn judge<S: InboxStorage>(
    context: &Context<S>,
    delivery: &Delivery,
    parked: &BTreeSet<OrderingKey>,
    horizon: Option<OffsetDateTime>,
    failure: Option<&str>,
) -> Option<Fate> {
    let config = &context.config;
    if let (Some(horizon), Some(time)) = (horizon, delivery.oldest_time())
        && time < horizon + config.clock_tolerance
    {
        let text = format!("its time is {time}, identities are known since {horizon}: it may have been applied before");
        return Some(buried(context, InboxDeadReason::BeyondRetention, text));
    }
    if let Some(failure) = failure {
        return Some(if config.max_attempts <= 1 {
            dead(1, InboxDeadReason::AttemptsExhausted, failure.to_owned(), config.dead_letters)
        } else {
            Fate::Failed { attempts: 1, delay: context.delay(&config.retry, 1), error: failure.to_owned() }
        });
    }
    if config.mode == Mode::Durable {
        return Some(Fate::Received);
    }
    let is_parked = delivery.key.as_ref().is_some_and(|key| parked.contains(key));
    (is_parked && !has_defect!(config, OvertakeParkedHead)).then_some(Fate::Waiting)
}

fn buried<S: InboxStorage>(context: &Context<S>, reason: InboxDeadReason, text: String) -> Fate {
    dead(0, reason, text, context.config.dead_letters)
}

/// Notes a message to put aside; what follows of its key in the same batch goes behind it.
fn put_aside(aside: Aside, asides: &mut Vec<Aside>, parked: &mut BTreeSet<OrderingKey>, counts: &mut Counts) {
    let is_dead = matches!(aside.fate, Fate::Dead { .. });
    if is_dead {
        counts.dead += 1;
    } else {
        counts.held += 1;
    }
    if !matches!(aside.fate, Fate::Dead { park_key: false, .. }) {
        parked.extend(aside.key.clone());
    }
    asides.push(aside);
}

impl Counts {
    fn publish<S: InboxStorage>(&self, context: &Context<S>, began: Instant, messages: usize) {
        let counters = &context.shared.counters;
        add(&counters.transactions, 1);
        add(&counters.processed, self.processed);
        add(&counters.duplicates, self.duplicates);
        add(&counters.skipped, self.skipped);
        add(&counters.held, self.held);
        add(&counters.dead, self.dead);
        metrics::histogram!("outbox_inbox_transaction_seconds").record(began.elapsed().as_secs_f64());
        #[allow(clippy::cast_precision_loss)]
        metrics::histogram!("outbox_inbox_batch_messages").record(messages as f64);
    }
}
