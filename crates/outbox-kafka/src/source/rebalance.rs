//! Partitions that come and go.

use std::time::Instant;

use outbox_core::inbox::{Assigned, Partition, SourceError, SourceErrorKind};
use rdkafka::consumer::Consumer as _;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use super::context::{KafkaConsumer, Rebalance};
use super::incoming::partition_of;
use super::starts;
use super::worker::{Worker, list_of};

/// Partitions on their way to other members: the group waits for them.
pub(super) struct HandOver {
    rebalance: Rebalance,
    partitions: Vec<Partition>,
    stage: Stage,
}

enum Stage {
    /// The inbox finishes what it works on.
    Asked { deadline: Instant },
    /// The last acknowledgements are committed.
    Committing { deadline: Instant },
    /// They are lost, and a commit is on its way that librdkafka must not repeat as a member of the next generation: it would set others back.
    Settling,
}

impl HandOver {
    pub(super) fn answer(&self, consumer: &KafkaConsumer) {
        self.rebalance.answer(consumer);
    }
}

impl Worker {
    /// Answers rebalances, one after the other, each when its time has come.
    pub(super) fn rebalance(&mut self) -> Result<(), SourceError> {
        loop {
            if let Some(hand_over) = self.hand_over.take() {
                self.hand_over = self.advance(hand_over);
            }
            if self.hand_over.is_some() {
                return Ok(());
            }
            match self.consumer.context().take_rebalance() {
                Some(Rebalance::Assign(list)) => self.assign(&list)?,
                Some(Rebalance::Revoke { list, is_lost: true }) => self.lose(list),
                Some(Rebalance::Revoke { list, is_lost: false }) => self.revoke(list),
                None => return Ok(()),
            }
        }
    }

    fn assign(&mut self, list: &TopicPartitionList) -> Result<(), SourceError> {
        let resolved = starts::resolve(&self.consumer, list, self.shared.start_at, self.shared.request_timeout);
        let starts = match resolved {
            Ok(starts) => starts,
            Err(error) => {
                // the subscription ends by this error; librdkafka wants its answer all the same
                Rebalance::Assign(list.clone()).answer(&self.consumer);
                return Err(error);
            }
        };
        let mut assigned = Vec::with_capacity(starts.count());
        for element in starts.elements() {
            let partition = partition_of(&self.shared.topics, element.topic(), element.partition());
            if let Offset::Offset(start) = element.offset() {
                self.next.insert(partition.clone(), start);
                assigned.push(Assigned { partition, start: Some(start) });
            }
        }
        if !assigned.is_empty() {
            self.mailbox.assign(assigned);
        }
        self.consumer.incremental_assign(&starts).map_err(|error| {
            let message = "the kafka consumer did not take its assignment: the inbox subscribes again";
            SourceError::new(SourceErrorKind::Unavailable, message).with_source(error)
        })
    }

    fn revoke(&mut self, list: TopicPartitionList) {
        let partitions = self.forget(&list);
        if partitions.is_empty() {
            Rebalance::Revoke { list, is_lost: false }.answer(&self.consumer);
            return;
        }
        self.mailbox.announce(&partitions);
        let deadline = Instant::now() + self.shared.properties.revoke_timeout;
        let rebalance = Rebalance::Revoke { list, is_lost: false };
        self.hand_over = Some(HandOver { rebalance, partitions, stage: Stage::Asked { deadline } });
    }

    fn lose(&mut self, list: TopicPartitionList) {
        let partitions = self.forget(&list);
        tracing::warn!(partitions = partitions.len(), "the kafka consumer was put out of its group");
        if !partitions.is_empty() {
            self.mailbox.lose(&partitions);
        }
        let rebalance = Rebalance::Revoke { list, is_lost: true };
        self.hand_over = Some(HandOver { rebalance, partitions, stage: Stage::Settling });
    }

    /// `None`: the partitions are gone.
    fn advance(&mut self, mut hand_over: HandOver) -> Option<HandOver> {
        let now = Instant::now();
        let is_over = match hand_over.stage {
            Stage::Settling => !self.commits.is_in_flight(),
            _ if self.consumer.assignment_lost() => {
                self.mailbox.handed_over(&hand_over.partitions);
                hand_over.stage = Stage::Settling;
                !self.commits.is_in_flight()
            }
            Stage::Asked { deadline } => {
                let is_late = now >= deadline;
                if is_late {
                    tracing::warn!(waited = ?self.shared.properties.revoke_timeout, "the inbox did not let go of revoked partitions");
                }
                if is_late || self.mailbox.is_released() {
                    self.mailbox.give_up(&hand_over.partitions);
                    self.commit_now();
                    hand_over.stage = Stage::Committing { deadline: now + self.shared.request_timeout };
                }
                false
            }
            Stage::Committing { deadline } => {
                let behind = self.mailbox.uncommitted();
                let behind = behind.iter().filter(|(partition, _)| hand_over.partitions.contains(partition)).count();
                if behind > 0 && !self.commits.is_in_flight() && self.commits.is_due(now) {
                    self.commit_now();
                }
                if now >= deadline {
                    let error = self.commits.unanswered(behind, self.shared.request_timeout);
                    tracing::warn!(%error, "partitions go without their last acknowledgements");
                }
                (behind == 0 && !self.commits.is_in_flight()) || now >= deadline
            }
        };
        if !is_over {
            return Some(hand_over);
        }
        self.mailbox.handed_over(&hand_over.partitions);
        hand_over.answer(&self.consumer);
        None
    }

    /// Wants no more messages of partitions that go; returns those that were assigned.
    fn forget(&mut self, list: &TopicPartitionList) -> Vec<Partition> {
        let mut forgotten = Vec::new();
        for element in list.elements() {
            let partition = partition_of(&self.shared.topics, element.topic(), element.partition());
            if self.paused.remove(&partition) {
                // it may come back, and comes back unpaused
                let _ = self.consumer.resume(&list_of([&partition]));
            }
            if self.next.remove(&partition).is_some() {
                forgotten.push(partition);
            }
        }
        forgotten
    }
}
