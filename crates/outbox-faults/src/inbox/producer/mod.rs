//! The producer of a run, without any code of the product.

mod kafka;
mod rabbitmq;

use std::sync::Arc;

use anyhow::Result;
use tokio::{runtime::Runtime, task::JoinHandle};

use super::stream::Stream;
use crate::{broker::create_topic, options::BrokerKind, pace::Pace};

/// Topic, or how the names of the queues begin.
pub(super) const TOPIC: &str = "fault-run-inbox";
/// Queues that the keys are spread over.
const QUEUES: u32 = 4;

/// Makes what the stream goes to.
pub(super) fn prepare(runtime: &Runtime, broker: BrokerKind, address: &str) -> Result<()> {
    match broker {
        BrokerKind::Kafka => runtime.block_on(create_topic(address, TOPIC)),
        BrokerKind::Rabbitmq => runtime.block_on(rabbitmq::prepare(address, &queues())),
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
        BrokerKind::Rabbitmq => runtime.spawn(async move { rabbitmq::send(&address, &stream, &pace).await }),
    }
}

/// The names of all queues.
pub(super) fn queues() -> Vec<String> {
    (0..QUEUES).map(|number| format!("{TOPIC}-{number}")).collect()
}

/// The queue of a key: always the same, so that the key has an order.
fn queue_of(key: &str) -> String {
    let sum = key.bytes().fold(0_u32, |sum, byte| sum.wrapping_mul(31).wrapping_add(u32::from(byte)));
    format!("{TOPIC}-{}", sum % QUEUES)
}
