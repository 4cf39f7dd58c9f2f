use lapin::types::{AMQPValue, FieldTable, ShortString};

use crate::BuildError;
use crate::destination::MAX_NAME_BYTES;

/// What makes a consumer wait while another one is active.
pub(super) const SINGLE_ACTIVE_CONSUMER: &str = "x-single-active-consumer";

const QUEUE_TYPE: &str = "x-queue-type";
const DELIVERY_LIMIT: &str = "x-delivery-limit";

/// As good as none, and a number that every version takes: RabbitMQ 4 drops a message of a quorum queue after 20 redeliveries, and each end of a
/// subscription is one for all that was prefetched. What cannot be processed is a dead letter of the inbox long before.
const NO_DELIVERY_LIMIT: i64 = 1_000_000_000;

/// A queue to receive from.
///
/// From a text: one that exists. It is not declared, and what it has is left as it is. From a [`DeclaredQueue`]: one that the source declares.
#[derive(Debug, Clone, PartialEq)]
pub struct Queue {
    pub(super) name: String,
    pub(super) declared: Option<DeclaredQueue>,
}

/// A durable queue that the source declares and binds when it subscribes.
///
/// | argument | value, unless [`argument`](Self::argument) says otherwise |
/// |---|---|
/// | `x-queue-type` | `quorum` |
/// | `x-single-active-consumer` | `true`, with [`Order::SingleActiveConsumer`] whatever `argument` says |
/// | `x-delivery-limit` | 1,000,000,000, on a quorum queue: RabbitMQ 4 would *drop* a message after 20 redeliveries, which as many restarts or lost connections are |
///
/// Declaring never changes what exists: a queue with other arguments is refused (406), and subscribing with it.
#[derive(Debug, Clone, PartialEq)]
pub struct DeclaredQueue {
    name: String,
    arguments: FieldTable,
    bindings: Vec<Binding>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Binding {
    pub(super) exchange: String,
    pub(super) key: String,
}

/// What the order of a queue's messages is worth, and how it is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Order {
    /// One consumer at a time, by `x-single-active-consumer`. Declared queues get it; of others it is asked whether they have it, which takes the
    /// permission `configure` on them. The default.
    #[default]
    SingleActiveConsumer,
    /// Somebody else sees to it that one consumer at a time receives from each queue: nothing is asked.
    Trusted,
    /// Order is not wanted: any number of consumers share a queue.
    None,
}

/// A value of a queue's argument.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum QueueArgument {
    /// Such as the name of a dead-letter exchange.
    Text(String),
    /// Such as a delivery limit.
    Number(i64),
    /// Yes or no.
    Flag(bool),
}

impl DeclaredQueue {
    /// A durable quorum queue.
    pub fn new(name: impl Into<String>) -> Self {
        let mut arguments = FieldTable::default();
        arguments.insert(QUEUE_TYPE.into(), AMQPValue::LongString("quorum".into()));
        Self { name: name.into(), arguments, bindings: Vec::new() }
    }

    /// Binds it to an exchange with a binding key such as `order.#`. An exchange that is not there is declared, durable and of type topic, as the relay's
    /// transport does it.
    pub fn bind(mut self, exchange: impl Into<String>, key: impl Into<String>) -> Self {
        self.bindings.push(Binding { exchange: exchange.into(), key: key.into() });
        self
    }

    /// Sets an argument such as `x-dead-letter-exchange`, `x-delivery-limit` or `x-queue-type`. A name of more than 255 bytes is refused by the
    /// source's builder.
    pub fn argument(mut self, name: impl Into<String>, value: impl Into<QueueArgument>) -> Self {
        let value = match value.into() {
            QueueArgument::Text(text) => AMQPValue::LongString(text.into()),
            QueueArgument::Number(number) => AMQPValue::LongLongInt(number),
            QueueArgument::Flag(flag) => AMQPValue::Boolean(flag),
        };
        self.arguments.insert(ShortString::try_new(name).unwrap_or_else(|_| UNNAMEABLE.into()), value);
        self
    }

    pub(super) fn arguments(&self, order: Order) -> FieldTable {
        let mut arguments = self.arguments.clone();
        if order == Order::SingleActiveConsumer {
            arguments.insert(SINGLE_ACTIVE_CONSUMER.into(), AMQPValue::Boolean(true));
        }
        let is_quorum = arguments.inner().get(QUEUE_TYPE) == Some(&AMQPValue::LongString("quorum".into()));
        if is_quorum && !arguments.contains_key(DELIVERY_LIMIT) {
            arguments.insert(DELIVERY_LIMIT.into(), AMQPValue::LongLongInt(NO_DELIVERY_LIMIT));
        }
        arguments
    }

    pub(super) fn bindings(&self) -> &[Binding] {
        &self.bindings
    }
}

/// Stands for the name of an argument that AMQP cannot carry; the source's builder refuses it.
const UNNAMEABLE: &str = "";

impl Queue {
    /// # Errors
    ///
    /// [`BuildError::Queues`] with what is wrong with it.
    pub(super) fn check(&self) -> Result<(), BuildError> {
        let declared = self.declared.iter();
        let bindings = declared.clone().flat_map(|queue| &queue.bindings);
        let names = bindings.flat_map(|binding| [("an exchange", &binding.exchange), ("a binding key", &binding.key)]);
        for (what, name) in std::iter::once(("a queue's name", &self.name)).chain(names) {
            if name.len() > MAX_NAME_BYTES {
                let fault = format!("{what} has {} bytes, the limit is {MAX_NAME_BYTES}", name.len());
                return Err(BuildError::Queues { fault });
            }
        }
        if self.name.is_empty() {
            return Err(BuildError::Queues { fault: "a queue's name is empty: name one".to_owned() });
        }
        if declared.clone().any(|queue| queue.arguments.contains_key(UNNAMEABLE)) {
            let fault = format!("queue {}: the name of an argument must have 1 to {MAX_NAME_BYTES} bytes", self.name);
            return Err(BuildError::Queues { fault });
        }
        if declared.clone().flat_map(|queue| &queue.bindings).any(|binding| binding.exchange.is_empty()) {
            let fault = format!("queue {}: nothing can be bound to the default exchange: leave it out", self.name);
            return Err(BuildError::Queues { fault });
        }
        Ok(())
    }
}

impl From<&str> for Queue {
    fn from(name: &str) -> Self {
        Self { name: name.to_owned(), declared: None }
    }
}

impl From<String> for Queue {
    fn from(name: String) -> Self {
        Self { name, declared: None }
    }
}

impl From<DeclaredQueue> for Queue {
    fn from(declared: DeclaredQueue) -> Self {
        Self { name: declared.name.clone(), declared: Some(declared) }
    }
}

impl From<&str> for QueueArgument {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<String> for QueueArgument {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<i64> for QueueArgument {
    fn from(number: i64) -> Self {
        Self::Number(number)
    }
}

impl From<bool> for QueueArgument {
    fn from(flag: bool) -> Self {
        Self::Flag(flag)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(queue: &DeclaredQueue, order: Order) -> Vec<String> {
        queue.arguments(order).inner().keys().map(ToString::to_string).collect()
    }

    #[test]
    fn a_declared_queue_loses_nothing_by_the_defaults_of_the_broker() {
        let queue = DeclaredQueue::new("billing");
        assert_eq!(names(&queue, Order::SingleActiveConsumer), [DELIVERY_LIMIT, QUEUE_TYPE, SINGLE_ACTIVE_CONSUMER]);
        assert_eq!(names(&queue, Order::None), [DELIVERY_LIMIT, QUEUE_TYPE]);
        let limited = queue.clone().argument(DELIVERY_LIMIT, 50).arguments(Order::None);
        assert_eq!(limited.inner().get(DELIVERY_LIMIT), Some(&AMQPValue::LongLongInt(50)));
    }

    #[test]
    fn a_classic_queue_gets_no_argument_that_it_does_not_know() {
        let classic = DeclaredQueue::new("billing").argument(QUEUE_TYPE, "classic");
        assert_eq!(names(&classic, Order::SingleActiveConsumer), [QUEUE_TYPE, SINGLE_ACTIVE_CONSUMER]);
    }
}
