//! A subscription, and what it told.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use outbox_core::inbox::{Consumer, Incoming, Partition, Source, SourceError, SourceEvent, Subscription};
use outbox_kafka::KafkaSource;
use tokio::time::{Instant, timeout};

use crate::common::DEADLINE;

pub(crate) struct Member {
    pub(crate) subscription: Box<dyn Subscription>,
    /// Where each partition started that it has.
    pub(crate) assigned: BTreeMap<Partition, Option<i64>>,
    pub(crate) received: Vec<Incoming>,
    /// What the broker holds durably.
    pub(crate) acknowledged: BTreeMap<Partition, i64>,
    /// Acknowledges what comes.
    pub(crate) acknowledges: bool,
}

impl Member {
    pub(crate) async fn join(source: &KafkaSource, consumer: &Consumer) -> Self {
        let subscription = source.subscribe(consumer).await.expect("a subscription");
        let (assigned, acknowledged) = (BTreeMap::new(), BTreeMap::new());
        Self { subscription, assigned, received: Vec::new(), acknowledged, acknowledges: false }
    }

    /// Takes what comes until a condition holds.
    pub(crate) async fn until(&mut self, what: &str, mut holds: impl FnMut(&Self) -> bool) {
        let deadline = Instant::now() + DEADLINE;
        while !holds(self) {
            assert!(Instant::now() < deadline, "not within {DEADLINE:?}: {what}");
            self.turn(Duration::from_millis(20)).await.expect("the subscription lives");
        }
    }

    pub(crate) async fn until_received(&mut self, count: usize) {
        self.until(&format!("{count} messages come"), |member| member.received.len() >= count).await;
    }

    /// Waits until the broker holds everything that was acknowledged.
    pub(crate) async fn until_committed(&mut self) {
        let mut last = BTreeMap::new();
        for message in &self.received {
            last.insert(message.partition.clone(), message.position);
        }
        self.until("the acknowledgements are committed", |member| member.acknowledged == last).await;
    }

    /// Takes what comes within this time; returns the partitions that it is asked for.
    pub(crate) async fn turn(&mut self, time: Duration) -> Result<Vec<Partition>, SourceError> {
        let deadline = Instant::now() + time;
        while let Ok(event) = timeout(deadline - Instant::now(), self.subscription.next()).await {
            match event? {
                SourceEvent::Assigned(assigned) => {
                    self.assigned.extend(assigned.into_iter().map(|one| (one.partition, one.start)));
                }
                SourceEvent::Delivered(messages) => {
                    for message in messages {
                        assert!(self.assigned.contains_key(&message.partition), "not assigned: {}", message.partition);
                        if self.acknowledges {
                            self.subscription.acknowledge(&message.partition, message.position);
                        }
                        self.received.push(message);
                    }
                }
                SourceEvent::Acknowledged(positions) => self.acknowledged.extend(positions),
                SourceEvent::Revoking(partitions) => {
                    self.assigned.retain(|partition, _| !partitions.contains(partition));
                    return Ok(partitions);
                }
                SourceEvent::Lost(partitions) => self.assigned.retain(|partition, _| !partitions.contains(partition)),
            }
        }
        Ok(Vec::new())
    }

    pub(crate) fn acknowledge_all(&mut self) {
        for message in &self.received {
            self.subscription.acknowledge(&message.partition, message.position);
        }
    }

    pub(crate) fn numbers(&self) -> BTreeSet<usize> {
        self.received.iter().map(number_of).collect()
    }
}

pub(crate) fn number_of(message: &Incoming) -> usize {
    let payload = message.payload.as_ref().expect("a payload");
    std::str::from_utf8(payload.as_ref()).expect("text").parse().expect("a number")
}
