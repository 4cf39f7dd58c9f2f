use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use lapin::options::{ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions};
use lapin::types::{FieldTable, ShortString};
use lapin::{Channel, Connection, ExchangeKind};
use outbox_core::ports::{Outcome, Reason, RouteName};
use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::Topology;
use crate::destination::Address;
use crate::refusal::{Scope, scope};
use crate::topology::{BoundQueue, Declaration, quorum};

/// How long what was found ready is not asked for again: many routes share an exchange.
const FRESH: Duration = Duration::from_secs(1);

/// Declares or checks what routes lead to, on a channel of its own: a refusal closes the channel that it came on.
pub(crate) struct Exchanges {
    connection: Arc<Connection>,
    topology: Topology,
    timeout: Duration,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    channel: Option<Channel>,
    ready: HashMap<Target, Instant>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Target {
    Exchange(ShortString),
    /// Of the default exchange.
    Queue(ShortString),
}

impl Exchanges {
    pub(crate) fn new(connection: Arc<Connection>, topology: Topology, timeout: Duration) -> Self {
        Self { connection, topology, timeout, state: Mutex::default() }
    }

    /// Makes a route ready. `again`: it was ready before, so that what is known of its exchange may no longer be true.
    ///
    /// # Errors
    ///
    /// [`Outcome::RoutePaused`] with what the broker said (403, 404, 406), [`Outcome::SessionLost`].
    pub(crate) async fn prepare(&self, route: &RouteName, address: &Address, again: bool) -> Result<(), Outcome> {
        if self.topology == Topology::Leave {
            return Ok(());
        }
        let target = if address.exchange.as_str().is_empty() {
            Target::Queue(address.routing_key.clone())
        } else {
            Target::Exchange(address.exchange.clone())
        };
        let mut state = self.state.lock().await;
        if !again && state.ready.get(&target).is_some_and(|since| since.elapsed() < FRESH) {
            return Ok(());
        }
        state.ready.remove(&target);
        // a channel is put back only after an answer that left it open
        let channel = state.channel.take().filter(|channel| channel.status().connected());
        match self.answered(self.ask(channel, &target)).await? {
            Ok(channel) => {
                state.channel = Some(channel);
                state.ready.insert(target, Instant::now());
                Ok(())
            }
            Err(error) => Err(match scope(&error) {
                Scope::Channel(refusal) => refusal.paused(route),
                Scope::Connection(reason) => Outcome::SessionLost(reason),
                Scope::ChannelGone => Outcome::SessionLost(Reason::new(error.to_string())),
            }),
        }
    }

    async fn ask(&self, channel: Option<Channel>, target: &Target) -> lapin::Result<Channel> {
        let channel = match channel {
            Some(channel) => channel,
            None => self.connection.create_channel().await?,
        };
        match (&self.topology, target) {
            (Topology::Declare(declaration), Target::Exchange(exchange)) => {
                declare(&channel, declaration, exchange).await?;
            }
            (_, Target::Exchange(exchange)) => {
                let options = ExchangeDeclareOptions { passive: true, ..ExchangeDeclareOptions::default() };
                channel.exchange_declare(exchange.clone(), ExchangeKind::Topic, options, FieldTable::default()).await?;
            }
            (Topology::Declare(_), Target::Queue(queue)) => declare_queue(&channel, queue).await?,
            (_, Target::Queue(queue)) => {
                let options = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
                channel.queue_declare(queue.clone(), options, FieldTable::default()).await?;
            }
        }
        Ok(channel)
    }

    /// Waits for an answer: as long as the broker blocks the connection, since it reads nothing then, and no longer than the time-out otherwise.
    async fn answered<T>(&self, ask: impl Future<Output = T>) -> Result<T, Outcome> {
        let mut ask = std::pin::pin!(ask);
        loop {
            match tokio::time::timeout(self.timeout, &mut ask).await {
                Ok(answer) => return Ok(answer),
                Err(_) if self.connection.status().blocked() && self.connection.status().connected() => {}
                Err(_) => {
                    let text =
                        format!("the broker did not answer about an exchange within {} ms", self.timeout.as_millis());
                    return Err(Outcome::SessionLost(Reason::new(text)));
                }
            }
        }
    }
}

async fn declare(channel: &Channel, declaration: &Declaration, exchange: &ShortString) -> lapin::Result<()> {
    let options = ExchangeDeclareOptions { durable: true, ..ExchangeDeclareOptions::default() };
    channel.exchange_declare(exchange.clone(), declaration.kind(), options, FieldTable::default()).await?;
    for BoundQueue { name, binding_key } in declaration.queues() {
        let queue = ShortString::from(name.as_str());
        declare_queue(channel, &queue).await?;
        let binding_key = ShortString::from(binding_key.as_str());
        channel
            .queue_bind(queue, exchange.clone(), binding_key, QueueBindOptions::default(), FieldTable::default())
            .await?;
    }
    Ok(())
}

async fn declare_queue(channel: &Channel, queue: &ShortString) -> lapin::Result<()> {
    let options = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
    channel.queue_declare(queue.clone(), options, quorum()).await.map(drop)
}
