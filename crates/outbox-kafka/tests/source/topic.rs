//! A topic of its own for each test, and somebody who publishes to it.

use std::time::Duration;

use outbox_kafka::{KafkaSource, KafkaSourceBuilder};
use rdkafka::ClientConfig;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseRecord, DefaultProducerContext, Producer as _, ThreadedProducer};

use crate::common::{broker, unique};

pub(crate) struct Topic {
    pub(crate) name: String,
    producer: ThreadedProducer<DefaultProducerContext>,
}

impl Topic {
    pub(crate) async fn create(partitions: i32) -> Self {
        let name = unique("source");
        let bootstrap = broker::bootstrap();
        broker::create_topic(&bootstrap, &name, partitions, &[]).await;
        Self::of(name, &bootstrap)
    }

    pub(crate) fn of(name: String, bootstrap: &str) -> Self {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", bootstrap).set("enable.idempotence", "true").set("linger.ms", "0");
        Self { name, producer: config.create().expect("a producer") }
    }

    pub(crate) fn source(&self) -> KafkaSource {
        self.builder().build().expect("a source")
    }

    pub(crate) fn builder(&self) -> KafkaSourceBuilder {
        KafkaSource::builder(broker::bootstrap(), [&*self.name]).property("fetch.wait.max.ms", "50")
    }

    pub(crate) fn publish(&self, key: &str, headers: &[(&str, &str)], payload: &[u8]) {
        let mut own = OwnedHeaders::new();
        for (key, value) in headers {
            own = own.insert(Header { key, value: Some(*value) });
        }
        let record = BaseRecord::to(&self.name).key(key).payload(payload).headers(own);
        self.producer.send(record).map_err(|(error, _)| error).expect("room for a record");
    }

    /// Publishes numbers, each of one of `keys` keys.
    pub(crate) fn publish_numbers(&self, numbers: std::ops::Range<usize>, keys: usize) {
        for number in numbers {
            self.publish(&format!("key-{}", number % keys), &[], number.to_string().as_bytes());
        }
        self.flush();
    }

    pub(crate) fn flush(&self) {
        self.producer.flush(Duration::from_secs(30)).expect("everything is published");
    }
}
