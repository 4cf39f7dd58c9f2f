use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use outbox_core::inbox::{Acknowledging, Incoming, Partition, Source, SourceEvent, Subscription};
use tokio::time::{Instant, timeout};

use super::{Published, TestStream};
use crate::case::chain;

/// How long a condition may take to become true.
const PATIENCE: Duration = Duration::from_secs(60);

/// The source under test, on a stream of its own.
pub(super) struct Subject {
    pub(super) stream: Box<dyn TestStream>,
    pub(super) source: Arc<dyn Source>,
}

impl Subject {
    pub(super) fn new(stream: Box<dyn TestStream>) -> Self {
        Self { source: stream.source(), stream }
    }

    pub(super) fn is_cumulative(&self) -> bool {
        self.source.acknowledging() == Acknowledging::Cumulative
    }

    pub(super) async fn publish(&self, numbers: std::ops::Range<usize>) {
        let messages: Vec<_> = numbers.map(numbered).collect();
        let published = self.stream.publish(&messages).await;
        published.unwrap_or_else(|error| panic!("the fixture's publish failed: {}", chain(&*error)));
    }

    pub(super) async fn join(&self) -> Member {
        let subscription = self.source.subscribe(&self.stream.consumer()).await.expect("subscribe");
        Member {
            subscription,
            assigned: BTreeMap::new(),
            starts: BTreeMap::new(),
            acknowledged: BTreeMap::new(),
            received: Vec::new(),
        }
    }
}

/// Message number `n`, of one of ten keys.
pub(super) fn numbered(n: usize) -> Published {
    let headers = vec![("ce_id".to_owned(), n.to_string())];
    Published { key: format!("key-{}", n % 10), headers, payload: n.to_string().into_bytes() }
}

pub(super) fn number_of(message: &Incoming) -> usize {
    let payload = message.payload.as_ref().expect("a payload");
    std::str::from_utf8(payload.as_ref()).expect("text").parse().expect("a number")
}

/// A subscription, and what it told.
pub(super) struct Member {
    pub(super) subscription: Box<dyn Subscription>,
    /// Partitions that it has, with the last position that came.
    pub(super) assigned: BTreeMap<Partition, Option<i64>>,
    pub(super) starts: BTreeMap<Partition, Option<i64>>,
    /// What the broker holds durably.
    pub(super) acknowledged: BTreeMap<Partition, i64>,
    pub(super) received: Vec<Incoming>,
}

impl Member {
    /// Takes what comes until a condition holds.
    pub(super) async fn until(&mut self, what: &str, mut holds: impl FnMut(&Self) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !holds(self) {
            let left = deadline.saturating_duration_since(Instant::now());
            let event = timeout(left, self.subscription.next()).await;
            let event = event.unwrap_or_else(|_| panic!("not within {} s: {what}", PATIENCE.as_secs()));
            self.note(event.expect("the subscription lives"));
        }
    }

    pub(super) async fn until_received(&mut self, count: usize) {
        self.until(&format!("{count} messages come"), |member| member.received.len() >= count).await;
    }

    /// Takes what comes for this long.
    pub(super) async fn for_a_while(&mut self, time: Duration) {
        let deadline = Instant::now() + time;
        while let Ok(event) =
            timeout(deadline.saturating_duration_since(Instant::now()), self.subscription.next()).await
        {
            self.note(event.expect("the subscription lives"));
        }
    }

    /// Notes an event, and checks what the contract says of each.
    pub(super) fn note(&mut self, event: SourceEvent) {
        match event {
            SourceEvent::Assigned(assigned) => {
                for one in assigned {
                    self.assigned.insert(one.partition.clone(), None);
                    self.starts.insert(one.partition, one.start);
                }
            }
            SourceEvent::Delivered(messages) => {
                assert!(!messages.is_empty(), "an empty delivery");
                for message in messages {
                    let last = self.assigned.get_mut(&message.partition);
                    let last =
                        last.unwrap_or_else(|| panic!("a message of {}, which is not assigned", message.partition));
                    assert!(last.is_none_or(|last| message.position > last), "positions do not grow strictly");
                    *last = Some(message.position);
                    self.received.push(message);
                }
            }
            SourceEvent::Acknowledged(positions) => self.acknowledged.extend(positions),
            SourceEvent::Revoking(partitions) | SourceEvent::Lost(partitions) => {
                for partition in partitions {
                    assert!(self.assigned.remove(&partition).is_some(), "{partition} was not assigned");
                }
            }
        }
    }

    /// Acknowledges everything that came.
    pub(super) fn acknowledge_all(&mut self) {
        for message in &self.received {
            self.subscription.acknowledge(&message.partition, message.position);
        }
    }

    pub(super) fn numbers(&self) -> Vec<usize> {
        let mut numbers: Vec<_> = self.received.iter().map(number_of).collect();
        numbers.sort_unstable();
        numbers
    }
}
