//! The broker of a run: where the relays publish to, and what arrived there, read without any code of the product.

mod consumer;
mod kafka;
mod rabbitmq;

use std::time::Duration;

use anyhow::{Context, Result};
use tokio::runtime::Runtime;

pub(crate) use kafka::{PARTITIONS, create as create_topic};
pub(crate) use rabbitmq::{EXCHANGE, QUEUE, Queue, connect as connect_rabbitmq};

use crate::{events::AGGREGATE_TYPE, options::Unroutable, verify::Record};

/// Where the events arrive.
pub(crate) enum Broker {
    /// A topic that keeps everything and is read at the end; the address of the broker.
    Kafka(String),
    /// A queue that is consumed all the time.
    RabbitMq(Queue),
}

impl Broker {
    /// Makes the topic of a run.
    pub(crate) fn kafka(runtime: &Runtime, address: &str) -> Result<Self> {
        runtime.block_on(kafka::create(address, AGGREGATE_TYPE))?;
        Ok(Self::Kafka(address.to_owned()))
    }

    /// Makes the queue of a run and begins to consume it.
    pub(crate) fn rabbitmq(runtime: &Runtime, url: &str, unroutable: Unroutable) -> Result<Self> {
        Ok(Self::RabbitMq(runtime.block_on(Queue::create(url, unroutable))?))
    }

    /// The queue, for faults that only it knows.
    pub(crate) fn queue(&self) -> Result<&Queue> {
        match self {
            Self::RabbitMq(queue) => Some(queue),
            Self::Kafka(_) => None,
        }
        .context("only RabbitMQ has such a fault")
    }

    /// Everything that arrived, in the order of each partition or of the queue. Fails when its end is not reached within `limit`.
    pub(crate) fn read_all(self, runtime: &Runtime, limit: Duration) -> Result<Read> {
        match self {
            Self::Kafka(address) => {
                let records = kafka::read_all(&address, AGGREGATE_TYPE, limit)?;
                Ok(Read { records, redelivered: 0 })
            }
            Self::RabbitMq(queue) => runtime.block_on(queue.finish(limit)),
        }
    }
}

/// What was read from a broker.
#[derive(Debug, Default)]
pub(crate) struct Read {
    pub(crate) records: Vec<Record>,
    /// Deliveries that were left out because the broker only gave out the same entry again.
    pub(crate) redelivered: u64,
}
