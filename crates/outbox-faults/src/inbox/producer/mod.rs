//! The producer of a run, without any code of the product.

mod kafka;

use std::sync::Arc;

use anyhow::Result;
use tokio::{runtime::Runtime, task::JoinHandle};

use super::stream::Stream;
use crate::{broker::create_topic, options::BrokerKind, pace::Pace};

/// Topic, or how the names of the queues begin.
pub(super) const TOPIC: &str = "fault-run-inbox";

/// Makes what the stream goes to.
pub(super) fn prepare(runtime: &Runtime, broker: BrokerKind, address: &str) -> Result<()> {
    match broker {
        BrokerKind::Kafka => runtime.block_on(create_topic(address, TOPIC)),
        BrokerKind::Rabbitmq => anyhow::bail!("the inbox has no source for RabbitMQ"),
    }
}

/// Sends a stream as it is released, until all of it is confirmed.
pub(super) fn start(
    runtime: &Runtime,
    broker: BrokerKind,
    address: &str,
    stream: &Arc<Stream>,
    pace: &Arc<Pace>,
) -> JoinHandle<Result<()>> {
    let (address, stream, pace) = (address.to_owned(), stream.clone(), pace.clone());
    match broker {
        BrokerKind::Kafka => runtime.spawn_blocking(move || kafka::send(&address, &stream, &pace)),
        BrokerKind::Rabbitmq => runtime.spawn(async { anyhow::bail!("the inbox has no source for RabbitMQ") }),
    }
}
