use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rdkafka::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer as _, ConsumerContext};
use rdkafka::error::KafkaError;
use rdkafka::topic_partition_list::TopicPartitionList;
use rdkafka::types::RDKafkaRespErr;

use crate::deliveries::log;

pub(super) type KafkaConsumer = BaseConsumer<Events>;

/// What librdkafka tells while it is polled, for the thread that polls. A rebalance is answered by that thread when its time has come;
/// until then librdkafka waits, and can be polled on.
#[derive(Default)]
pub(super) struct Events {
    told: Mutex<Told>,
    is_leaving: AtomicBool,
}

#[derive(Default)]
struct Told {
    rebalances: VecDeque<Rebalance>,
    last_error: Option<String>,
}

/// Partitions that come or go.
pub(super) enum Rebalance {
    Assign(TopicPartitionList),
    /// `is_lost`: others may have them already.
    Revoke {
        list: TopicPartitionList,
        is_lost: bool,
    },
}

impl Events {
    pub(super) fn take_rebalance(&self) -> Option<Rebalance> {
        self.told().rebalances.pop_front()
    }

    /// What librdkafka said of the last error, for people.
    pub(super) fn last_error(&self) -> Option<String> {
        self.told().last_error.clone()
    }

    /// From now on rebalances are answered at once: nobody works on messages any more.
    pub(super) fn leave(&self) {
        self.is_leaving.store(true, Ordering::Relaxed);
    }

    fn told(&self) -> MutexGuard<'_, Told> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ClientContext for Events {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, text: &str) {
        log(level, facility, text);
    }

    fn stats_raw(&self, _: &[u8]) {
        // metrics are made by the inbox, around the ports
    }

    fn error(&self, error: KafkaError, text: &str) {
        tracing::debug!(%error, text, "kafka client error");
        self.told().last_error = Some(text.to_owned());
    }
}

impl ConsumerContext for Events {
    fn rebalance(&self, consumer: &BaseConsumer<Self>, code: RDKafkaRespErr, list: &mut TopicPartitionList) {
        let rebalance = if code == RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS {
            Rebalance::Assign(list.clone())
        } else {
            Rebalance::Revoke { list: list.clone(), is_lost: consumer.assignment_lost() }
        };
        if self.is_leaving.load(Ordering::Relaxed) {
            rebalance.answer(consumer);
        } else {
            self.told().rebalances.push_back(rebalance);
        }
    }
}

impl Rebalance {
    /// Lets librdkafka go on.
    pub(super) fn answer(&self, consumer: &BaseConsumer<Events>) {
        let answered = match self {
            Self::Assign(list) => consumer.incremental_assign(list),
            Self::Revoke { list, .. } => consumer.incremental_unassign(list),
        };
        if let Err(error) = answered {
            // only when librdkafka has changed the assignment by itself meanwhile
            tracing::warn!(%error, "the kafka consumer did not take the answer to a rebalance");
        }
    }
}
