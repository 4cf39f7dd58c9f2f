//! A subscription, and what it told.

use std::collections::BTreeSet;
use std::time::Duration;

use outbox_amqp::AmqpSource;
use outbox_core::inbox::{Consumer, Incoming, Partition, Source, SourceError, SourceEvent, Subscription};
use tokio::time::{Instant, timeout};

use crate::common::DEADLINE;

pub(crate) struct Member {
    pub(crate) subscription: Box<dyn Subscription>,
    pub(crate) assigned: BTreeSet<Partition>,
    pub(crate) received: Vec<Incoming>,
}

impl Member {
    pub(crate) async fn join(source: &AmqpSource) -> Self {
        let subscription = source.subscribe(&consumer()).await.expect("a subscription");
        Self { subscription, assigned: BTreeSet::new(), received: Vec::new() }
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

    /// Takes what comes until the subscription ends, and returns why.
    pub(crate) async fn until_lost(&mut self) -> SourceError {
        let deadline = Instant::now() + DEADLINE;
        loop {
            assert!(Instant::now() < deadline, "not within {DEADLINE:?}: the subscription ends");
            if let Err(error) = self.turn(Duration::from_millis(20)).await {
                return error;
            }
        }
    }

    /// Takes what comes within this time.
    pub(crate) async fn turn(&mut self, time: Duration) -> Result<(), SourceError> {
        let deadline = Instant::now() + time;
        while let Ok(event) = timeout(deadline - Instant::now(), self.subscription.next()).await {
            match event? {
                SourceEvent::Assigned(assigned) => {
                    for one in assigned {
                        assert_eq!(one.start, None, "positions mean nothing outside of an assignment");
                        assert!(self.assigned.insert(one.partition), "assigned twice");
                    }
                }
                SourceEvent::Delivered(messages) => {
                    let assigned = |message: &Incoming| self.assigned.contains(&message.partition);
                    assert!(messages.iter().all(assigned), "a message of a queue that is not assigned");
                    self.received.extend(messages);
                }
                other => panic!("a queue is never asked back: {other:?}"),
            }
        }
        Ok(())
    }

    /// Acknowledges what came, by its number.
    pub(crate) fn acknowledge(&mut self, is_done: impl Fn(usize) -> bool) {
        for message in self.received.iter().filter(|message| is_done(number_of(message))) {
            self.subscription.acknowledge(&message.partition, message.position);
        }
    }

    /// In the order in which they came.
    pub(crate) fn numbers(&self) -> Vec<usize> {
        self.received.iter().map(number_of).collect()
    }
}

pub(crate) fn consumer() -> Consumer {
    Consumer::new("billing").expect("a valid name")
}

/// Why a source refuses to subscribe.
pub(crate) async fn refusal(source: &AmqpSource) -> SourceError {
    match source.subscribe(&consumer()).await {
        Ok(_) => panic!("subscribed"),
        Err(error) => error,
    }
}

pub(crate) fn number_of(message: &Incoming) -> usize {
    let payload = message.payload.as_ref().expect("a payload");
    std::str::from_utf8(payload.as_ref()).expect("text").parse().expect("a number")
}
