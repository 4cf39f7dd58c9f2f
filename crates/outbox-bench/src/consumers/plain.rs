use std::time::Duration;

use anyhow::{Context, Result, ensure};
use diesel_async::{AsyncConnection as _, AsyncPgConnection};
use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::message::{BorrowedMessage, Headers as _, Message as _};
use tokio::runtime::Handle;

use super::apply;
use crate::relays::{Drained, Stopwatch};
use crate::services::{InboxPlace, Topic, unique};

/// Messages of one transaction: the inbox's own number.
const BATCH: usize = 500;
const POLL: Duration = Duration::from_millis(100);
/// Polls without a message before the consumer counts as stuck.
const EMPTY_POLLS: usize = 600;

/// How a plain consumer commits its effects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Committing {
    /// Each message in a transaction: BEGIN, the effect, COMMIT.
    EachMessage,
    /// Each message by its statement alone, without BEGIN and COMMIT.
    EachStatement,
    /// What has arrived, up to 500 messages, in a transaction.
    Batches,
}

/// Runs one consumer without an inbox on one connection, until it has applied `events` of a topic: what is redelivered it would apply again.
///
/// # Errors
///
/// A service fails, or the topic has fewer messages.
pub async fn consume_plainly(
    place: &InboxPlace,
    topic: &Topic,
    events: u64,
    committing: Committing,
) -> Result<Drained> {
    let (url, brokers, name) = (place.url().to_owned(), topic.brokers().to_owned(), topic.name().to_owned());
    let runtime = Handle::current();
    let work = move || {
        let mut watch = Stopwatch::start();
        let mut conn = runtime.block_on(AsyncPgConnection::establish(&url))?;
        let consumer: BaseConsumer = ClientConfig::new()
            .set("bootstrap.servers", &brokers)
            .set("group.id", unique("consumer"))
            .set("auto.offset.reset", "earliest")
            // the client's own way: a commit for each message would cost more than the message
            .set("enable.auto.commit", "true")
            .create()?;
        consumer.subscribe(&[&name])?;
        let (mut applied, mut empty) = (0, 0);
        while applied < events {
            let batch = if committing == Committing::Batches { BATCH } else { 1 };
            let messages = arrived(&consumer, batch.min(usize::try_from(events - applied)?))?;
            if messages.is_empty() {
                empty += 1;
                ensure!(
                    empty < EMPTY_POLLS,
                    "no message came for {POLL:?} × {EMPTY_POLLS}: {applied} of {events} came"
                );
                continue;
            }
            empty = 0;
            runtime.block_on(apply_all(&mut conn, &messages, committing))?;
            applied += messages.len() as u64;
            watch.confirmed(applied);
        }
        Ok(watch.stop(applied))
    };
    tokio::task::spawn_blocking(work).await.context("the consumer panicked")?
}

/// Waits for one message, and takes what has arrived with it.
fn arrived(consumer: &BaseConsumer, limit: usize) -> Result<Vec<BorrowedMessage<'_>>> {
    let mut messages = Vec::new();
    while messages.len() < limit {
        let wait = if messages.is_empty() { POLL } else { Duration::ZERO };
        match consumer.poll(wait) {
            Some(message) => messages.push(message?),
            None => break,
        }
    }
    Ok(messages)
}

async fn apply_all(
    conn: &mut AsyncPgConnection,
    messages: &[BorrowedMessage<'_>],
    committing: Committing,
) -> Result<()> {
    if committing == Committing::EachStatement {
        for message in messages {
            apply_one(conn, message).await?;
        }
        return Ok(());
    }
    conn.transaction(async |conn| {
        for message in messages {
            apply_one(conn, message).await?;
        }
        Ok(())
    })
    .await
}

async fn apply_one(conn: &mut AsyncPgConnection, message: &BorrowedMessage<'_>) -> Result<()> {
    let headers = message.headers().context("a message without headers")?;
    let header = |name: &str| {
        let value = headers.iter().find(|header| header.key == name).and_then(|header| header.value);
        std::str::from_utf8(value.unwrap_or_default())
    };
    Ok(apply(conn, header("ce_id")?, header("ce_subject")?).await?)
}
