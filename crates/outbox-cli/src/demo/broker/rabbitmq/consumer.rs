use std::{
    collections::HashSet,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, anyhow, bail};
use async_trait::async_trait;
use futures_util::StreamExt as _;
use lapin::{
    BasicProperties, Channel, Connection,
    message::Delivery,
    options::{BasicAckOptions, BasicConsumeOptions, BasicPublishOptions, BasicQosOptions, ConfirmSelectOptions},
    types::{AMQPValue, FieldTable},
};
use tokio::task::JoinHandle;
use uuid::Uuid;

use super::super::{Arrival, Consumer};
use crate::demo::{event::OrderChanged, tally::Tally, verify::Recorded};

/// Deliveries that the broker sends ahead.
const PREFETCH: u16 = 1000;
/// Deliveries acknowledged together, well below [`PREFETCH`] so that the broker never waits for them.
const ACKNOWLEDGED_AT_ONCE: u64 = 100;
/// The `type` of the message that ends the reading.
const END: &str = "demo.end";
/// How long the rest may take once the end is in the queue.
const REST_LIMIT: Duration = Duration::from_secs(60);

/// Reads the queue, alone, in the broker's order.
pub(super) struct QueueConsumer {
    connection: Connection,
    channel: Channel,
    queue: String,
    task: JoinHandle<Result<Vec<Arrival>>>,
}

impl QueueConsumer {
    /// Starts reading.
    ///
    /// # Errors
    ///
    /// When the queue cannot be read.
    pub(super) async fn start(connection: Connection, queue: &str, tally: Arc<Tally>) -> Result<Self> {
        let channel = connection.create_channel().await.context("cannot open the consumer's channel")?;
        channel.confirm_select(ConfirmSelectOptions::default()).await?;
        channel.basic_qos(PREFETCH, BasicQosOptions::default()).await?;
        let exclusive = BasicConsumeOptions { exclusive: true, ..BasicConsumeOptions::default() };
        let deliveries = channel
            .basic_consume(queue.into(), "".into(), exclusive, FieldTable::default())
            .await
            .context("cannot read the demo's queue")?;
        let reading = Reading { channel: channel.clone(), known: HashSet::new(), arrivals: Vec::new(), tally };
        let task = tokio::spawn(reading.run(deliveries));
        Ok(Self { connection, channel, queue: queue.to_owned(), task })
    }
}

#[async_trait]
impl Consumer for QueueConsumer {
    fn has_failed(&self) -> bool {
        self.task.is_finished()
    }

    /// A message of the consumer's own, behind everything that was confirmed to the relay, says where the end is.
    async fn finish(mut self: Box<Self>) -> Result<Vec<Arrival>> {
        if !self.task.is_finished() {
            let end = BasicProperties::default().with_type(END.into());
            let queue = self.queue.as_str();
            let confirm = self.channel.basic_publish("".into(), queue.into(), BasicPublishOptions::default(), &[], end);
            let confirmed = confirm.await?.await.context("cannot mark the end of the demo's queue")?;
            if !confirmed.is_ack() {
                bail!("the broker refuses to mark the end of the demo's queue");
            }
        }
        let ended = tokio::time::timeout(REST_LIMIT, &mut self.task).await;
        self.task.abort();
        let arrivals = ended
            .map_err(|_| anyhow!("the end of the queue was not reached within {} s", REST_LIMIT.as_secs()))?
            .map_err(|_| anyhow!("the demo's consumer panicked"))??;
        self.connection.close(200, "bye".into()).await?;
        Ok(arrivals)
    }
}

struct Reading {
    channel: Channel,
    known: HashSet<Uuid>,
    arrivals: Vec<Arrival>,
    tally: Arc<Tally>,
}

impl Reading {
    async fn run(mut self, mut deliveries: lapin::Consumer) -> Result<Vec<Arrival>> {
        while let Some(delivery) = deliveries.next().await {
            let delivery = delivery.context("the demo's consumer lost the broker")?;
            if delivery.properties.kind().as_ref().is_some_and(|kind| kind.as_str() == END) {
                return Ok(self.arrivals);
            }
            let tag = delivery.delivery_tag;
            let event = parse(&delivery).with_context(|| format!("delivery {tag} holds no event of the demo"))?;
            if self.known.insert(event.id) {
                self.tally.delivered();
            }
            self.arrivals.push(Arrival { event, at: Instant::now() });
            if tag % ACKNOWLEDGED_AT_ONCE == 0 {
                self.channel.basic_ack(tag, BasicAckOptions { multiple: true }).await?;
            }
        }
        bail!("the broker ended the demo's consumer")
    }
}

fn parse(delivery: &Delivery) -> Result<Recorded> {
    let id = delivery.properties.message_id().as_ref().context("it has no message_id")?;
    let id = Uuid::try_parse(id.as_str()).context("its message_id is no UUID")?;
    let body: OrderChanged = serde_json::from_slice(&delivery.data)?;
    let headers = delivery.properties.headers().as_ref().context("it has no headers")?;
    let subject = match headers.inner().get("cloudEvents_subject") {
        Some(AMQPValue::LongString(subject)) => subject.as_bytes(),
        _ => bail!("it has no cloudEvents_subject"),
    };
    if subject != body.order_id.to_string().as_bytes() {
        bail!("its subject is not the order's id");
    }
    Ok(Recorded { id, order_id: body.order_id, version: body.version, cents: body.amount_cents })
}
