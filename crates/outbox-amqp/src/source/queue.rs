use lapin::types::{AMQPValue, FieldTable, ShortString};

use crate::BuildError;
use crate::destination::MAX_NAME_BYTES;

/// What makes a consumer wait while another one is active.
pub(super) const SINGLE_ACTIVE_CONSUMER: &str = "x-single-active-consumer";

/// A queue to receive from.
///
/// From a text: one that exists. It is not declared, and what it has is left as it is. From a [`DeclaredQueue`]: one that the source declares.
#[derive(Debug, Clone, PartialEq)]
pub struct Queue {
    pub(super) name: String,
    pub(super) declared: Option<DeclaredQueue>,
}

/// A durable queue that the source declares and binds when it subscribes; a quorum queue unless [`argument`](Self::argument) says otherwise.
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
        arguments.insert("x-queue-type".into(), AMQPValue::LongString("quorum".into()));
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
        // what is too long is cut here to a name that `check` refuses
        let name: String = name.into();
        let name = ShortString::try_new(name).unwrap_or_else(|_| ShortString::from(TOO_LONG));
        self.arguments.insert(name, value);
        self
    }

    pub(super) fn arguments(&self, order: Order) -> FieldTable {
        let mut arguments = self.arguments.clone();
        if order == Order::SingleActiveConsumer {
            arguments.insert(SINGLE_ACTIVE_CONSUMER.into(), AMQPValue::Boolean(true));
        }
        arguments
    }

    pub(super) fn bindings(&self) -> &[Binding] {
        &self.bindings
    }
}

/// Stands for the name of an argument that AMQP cannot carry.
const TOO_LONG: &str = "";

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
        if declared.clone().any(|queue| queue.arguments.contains_key(TOO_LONG)) {
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
