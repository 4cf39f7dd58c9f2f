use lapin::ExchangeKind as Kind;
use lapin::types::{AMQPValue, FieldTable, ShortString};

use crate::BuildError;

/// What the transport does about exchanges and queues before it publishes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Topology {
    /// Declares the exchange of each route, with what [`Declaration`] says; for a route of the default exchange a durable quorum queue with
    /// the routing key as its name. What exists with other properties pauses the route (406). The default.
    Declare(Declaration),
    /// Asks whether the exchange (or the queue, for the default exchange) is there, and pauses the route while it is not (404).
    Check,
    /// Does nothing: a missing exchange is found when the broker closes the channel over the first message.
    Leave,
}

/// What [`Topology::Declare`] declares: durable exchanges and, if wanted, durable quorum queues that are bound to them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Declaration {
    exchange_kind: ExchangeKind,
    queues: Vec<BoundQueue>,
}

/// How an exchange spreads messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum ExchangeKind {
    /// By patterns over the routing key (`order.#`). The default.
    #[default]
    Topic,
    /// By the exact routing key.
    Direct,
    /// To every bound queue.
    Fanout,
    /// By headers.
    Headers,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct BoundQueue {
    pub(crate) name: String,
    pub(crate) binding_key: String,
}

impl Default for Topology {
    fn default() -> Self {
        Self::Declare(Declaration::default())
    }
}

impl Declaration {
    /// Durable topic exchanges and no queue: each consumer declares its own and binds it.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets how the exchanges spread messages. Default: [`ExchangeKind::Topic`].
    pub fn exchange_kind(mut self, kind: ExchangeKind) -> Self {
        self.exchange_kind = kind;
        self
    }

    /// Adds a durable quorum queue, bound to every exchange that is declared, with a binding key such as `order.#`.
    pub fn quorum_queue(mut self, name: impl Into<String>, binding_key: impl Into<String>) -> Self {
        self.queues.push(BoundQueue { name: name.into(), binding_key: binding_key.into() });
        self
    }

    pub(crate) fn kind(&self) -> Kind {
        match self.exchange_kind {
            ExchangeKind::Topic => Kind::Topic,
            ExchangeKind::Direct => Kind::Direct,
            ExchangeKind::Fanout => Kind::Fanout,
            ExchangeKind::Headers => Kind::Headers,
        }
    }

    pub(crate) fn queues(&self) -> &[BoundQueue] {
        &self.queues
    }
}

impl Topology {
    /// # Errors
    ///
    /// [`BuildError::TooLong`] for a name that AMQP cannot carry.
    pub(crate) fn check(&self) -> Result<(), BuildError> {
        let Self::Declare(declaration) = self else { return Ok(()) };
        for queue in &declaration.queues {
            for text in [&queue.name, &queue.binding_key] {
                if ShortString::try_new(&**text).is_err() {
                    return Err(BuildError::TooLong { field: "quorum_queue", bytes: text.len() });
                }
            }
        }
        Ok(())
    }
}

/// The arguments of a quorum queue.
pub(crate) fn quorum() -> FieldTable {
    let mut arguments = FieldTable::default();
    arguments.insert("x-queue-type".into(), AMQPValue::LongString("quorum".into()));
    arguments
}
