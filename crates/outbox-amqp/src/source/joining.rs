use std::sync::Arc;

use lapin::options::{
    BasicConsumeOptions, BasicQosOptions, ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions,
};
use lapin::types::{FieldTable, ShortString};
use lapin::{Channel, Connection, ExchangeKind};
use outbox_core::inbox::{Consumer, Partition, SourceError, SourceErrorKind};

use super::Shared;
use super::arguments::check_single_active_consumer;
use super::fault::{lost, refused};
use super::line::Line;
use super::queue::{DeclaredQueue, Order, Queue};
use super::subscription::AmqpSubscription;
use crate::connection;
use crate::refusal::{Refusal, RefusalKind, Scope, scope};
use crate::wire::Wire;

/// A subscription that is being made. Its wire is cut before its consumers are dropped.
struct Joining {
    wire: Wire,
    connection: Arc<Connection>,
    lines: Vec<Line>,
}

/// Connects, sees to the queues, and consumes from them.
///
/// # Cancellation
///
/// Dropping the future cuts the connection.
pub(super) async fn join(shared: &Shared, consumer: &Consumer) -> Result<AmqpSubscription, SourceError> {
    let (connection, wire) =
        connection::open(&shared.endpoint, &shared.connection_name, shared.request_timeout).await?;
    let mut joining = Joining { wire, connection, lines: Vec::new() };
    let joined = tokio::time::timeout(shared.request_timeout, joining.consume(shared, consumer)).await;
    joined.unwrap_or_else(|_| {
        let message =
            format!("the broker did not answer about the queues within {} ms", shared.request_timeout.as_millis());
        Err(SourceError::new(SourceErrorKind::Unavailable, message))
    })?;
    let Joining { wire, connection, lines } = joining;
    Ok(AmqpSubscription::new(wire, connection, lines, shared.request_timeout))
}

impl Joining {
    async fn consume(&mut self, shared: &Shared, consumer: &Consumer) -> Result<(), SourceError> {
        for queue in &shared.queues {
            prepare(&self.connection, queue, shared.order).await?;
        }
        // only when all queues are right: a consumer that goes again has had messages of its queue meanwhile
        for Queue { name, .. } in &shared.queues {
            let line = consume(&self.connection, name, consumer, shared.prefetch).await;
            self.lines.push(line.map_err(|error| refused(name, &error))?);
        }
        Ok(())
    }
}

async fn consume(connection: &Connection, queue: &str, consumer: &Consumer, prefetch: u16) -> lapin::Result<Line> {
    let channel = connection.create_channel().await?;
    channel.basic_qos(prefetch, BasicQosOptions::default()).await?;
    // of its own channel: further subscriptions of the consumer have the same
    let tag = ShortString::try_new(consumer.as_str()).unwrap_or_default();
    let (options, arguments) = (BasicConsumeOptions::default(), FieldTable::default());
    let messages = channel.basic_consume(queue.into(), tag, options, arguments).await?;
    Ok(Line::new(Partition::new(queue, 0), channel, messages))
}

/// Declares a queue, or checks one that exists.
async fn prepare(connection: &Connection, queue: &Queue, order: Order) -> Result<(), SourceError> {
    match &queue.declared {
        Some(declared) => declare(connection, &queue.name, declared, order).await,
        None if order == Order::SingleActiveConsumer => check_single_active_consumer(connection, &queue.name).await,
        None => Ok(()), // consuming tells whether it is there
    }
}

async fn declare(
    connection: &Connection,
    queue: &str,
    declared: &DeclaredQueue,
    order: Order,
) -> Result<(), SourceError> {
    let failed = |error: lapin::Error| refused(queue, &error);
    for binding in declared.bindings() {
        declare_missing_exchange(connection, &binding.exchange).await.map_err(failed)?;
    }
    let channel = connection.create_channel().await.map_err(|error| lost(queue, &error))?;
    let durable = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
    channel.queue_declare(queue.into(), durable, declared.arguments(order)).await.map_err(failed)?;
    for binding in declared.bindings() {
        let (exchange, key) = (binding.exchange.as_str().into(), binding.key.as_str().into());
        let bound = channel.queue_bind(queue.into(), exchange, key, QueueBindOptions::default(), FieldTable::default());
        bound.await.map_err(failed)?;
    }
    Ok(())
}

async fn declare_missing_exchange(connection: &Connection, exchange: &str) -> lapin::Result<()> {
    let passive = ExchangeDeclareOptions { passive: true, ..ExchangeDeclareOptions::default() };
    match declare_exchange(&connection.create_channel().await?, exchange, passive).await {
        Err(error) if is_missing(&error) => {
            let durable = ExchangeDeclareOptions { durable: true, ..ExchangeDeclareOptions::default() };
            declare_exchange(&connection.create_channel().await?, exchange, durable).await
        }
        other => other,
    }
}

async fn declare_exchange(channel: &Channel, exchange: &str, options: ExchangeDeclareOptions) -> lapin::Result<()> {
    channel.exchange_declare(exchange.into(), ExchangeKind::Topic, options, FieldTable::default()).await
}

fn is_missing(error: &lapin::Error) -> bool {
    matches!(scope(error), Scope::Channel(Refusal { kind: RefusalKind::NotFound, .. }))
}
