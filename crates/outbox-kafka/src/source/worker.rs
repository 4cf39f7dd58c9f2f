use std::collections::{HashMap, HashSet};
use std::io;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use outbox_core::inbox::{Partition, SourceError};
use rdkafka::consumer::Consumer as _;
use rdkafka::message::Message as _;
use rdkafka::topic_partition_list::TopicPartitionList;

use super::Shared;
use super::commits::Commits;
use super::context::KafkaConsumer;
use super::fault::fault;
use super::incoming::{incoming, partition_of};
use super::mailbox::{Leaving, Mailbox};
use super::rebalance::HandOver;

/// How long one poll waits for a message before notes of the inbox are looked at.
const POLL: Duration = Duration::from_millis(20);

/// Messages that are taken from the client before notes of the inbox are looked at.
const BURST: usize = 100;

/// The thread that serves one subscription.
pub(super) struct Worker {
    pub(super) consumer: Arc<KafkaConsumer>,
    pub(super) mailbox: Arc<Mailbox>,
    pub(super) shared: Arc<Shared>,
    /// Partitions whose messages are wanted, with the next offset that may come.
    pub(super) next: HashMap<Partition, i64>,
    pub(super) paused: HashSet<Partition>,
    pub(super) hand_over: Option<HandOver>,
    pub(super) commits: Commits,
}

impl Worker {
    pub(super) fn start(consumer: KafkaConsumer, mailbox: Arc<Mailbox>, shared: Arc<Shared>) -> io::Result<()> {
        let worker = Self {
            consumer: Arc::new(consumer),
            mailbox,
            next: HashMap::new(),
            paused: HashSet::new(),
            hand_over: None,
            commits: Commits::start(shared.commit_interval)?,
            shared,
        };
        thread::Builder::new().name("outbox-kafka-source".to_owned()).spawn(|| worker.serve()).map(drop)
    }

    fn serve(mut self) {
        let fault = loop {
            if let Some(leaving) = self.mailbox.take_leaving() {
                return self.leave(leaving);
            }
            if let Err(fault) = self.turn() {
                break fault;
            }
        };
        if let Some(leaving) = self.mailbox.end(Some(fault)) {
            return self.leave(leaving);
        }
        self.quit();
    }

    fn turn(&mut self) -> Result<(), SourceError> {
        self.regulate();
        self.rebalance()?;
        self.commit()?;
        // with a full mailbox nothing is polled: an inbox that asks for nothing any more loses its partitions after `max.poll.interval.ms`
        if self.mailbox.wait_for_room(POLL) { self.receive(POLL) } else { Ok(()) }
    }

    fn receive(&mut self, wait: Duration) -> Result<(), SourceError> {
        let mut messages = Vec::new();
        let mut result = Ok(());
        for index in 0..BURST {
            let wait = if index == 0 { wait } else { Duration::ZERO };
            match self.consumer.poll(wait) {
                Some(Ok(record)) => {
                    let partition = partition_of(&self.shared.topics, record.topic(), record.partition());
                    // what librdkafka still had of a partition that goes is the next member's
                    if let Some(next) = self.next.get_mut(&partition).filter(|next| record.offset() >= **next) {
                        *next = record.offset() + 1;
                        messages.push(incoming(partition, &record));
                    }
                }
                Some(Err(error)) => {
                    let text = self.consumer.context().last_error();
                    if let Some(fault) = fault(&error, text.as_deref()) {
                        result = Err(fault);
                        break;
                    }
                }
                None => break,
            }
        }
        self.mailbox.deliver(messages);
        result
    }

    fn regulate(&mut self) {
        for (partition, pause) in self.mailbox.take_regulated() {
            if !self.next.contains_key(&partition) || self.paused.contains(&partition) == pause {
                continue;
            }
            let list = list_of([&partition]);
            let changed = if pause { self.consumer.pause(&list) } else { self.consumer.resume(&list) };
            match changed {
                Ok(()) if pause => drop(self.paused.insert(partition)),
                Ok(()) => drop(self.paused.remove(&partition)),
                Err(error) => tracing::warn!(%error, %partition, pause, "a partition could not be paused or resumed"),
            }
        }
    }

    /// Commits what is acknowledged, when it is time, and tells what the broker holds.
    fn commit(&mut self) -> Result<(), SourceError> {
        self.mailbox.committed(self.commits.answered()?);
        if self.commits.is_due(Instant::now()) {
            self.commit_now();
        }
        Ok(())
    }

    /// Begins a commit of all that is acknowledged, unless one is on its way.
    pub(super) fn commit_now(&mut self) {
        if !self.commits.is_in_flight() {
            self.commits.begin(&self.consumer, self.mailbox.uncommitted());
        }
    }

    /// Commits what is left when it is asked to, and leaves the group.
    fn leave(mut self, leaving: Leaving) {
        let Leaving::Closing(left) = leaving else {
            self.mailbox.end(None);
            return self.quit();
        };
        let result = self.commit_the_rest();
        let mailbox = self.mailbox.clone();
        self.quit();
        mailbox.end(None);
        // nobody listens when the future of the close was dropped
        let _ = left.send(result);
    }

    fn commit_the_rest(&mut self) -> Result<(), SourceError> {
        self.next.clear();
        let deadline = Instant::now() + self.shared.request_timeout;
        self.commit_now(); // the last acknowledgements do not wait for their time
        loop {
            self.commit()?;
            let behind = self.mailbox.uncommitted().len();
            if behind == 0 && !self.commits.is_in_flight() {
                return Ok(());
            }
            if Instant::now() >= deadline {
                return Err(self.commits.unanswered(behind, self.shared.request_timeout));
            }
            // rebalances wait for the end of this; what is lost is acknowledged by others
            if self.consumer.assignment_lost() {
                return Err(self.commits.unanswered(behind, self.shared.request_timeout));
            }
            self.receive(POLL)?;
        }
    }

    /// Destroys the consumer, which leaves the group; with a commit on its way, when that is answered.
    fn quit(self) {
        self.consumer.context().leave();
        if let Some(hand_over) = &self.hand_over {
            hand_over.answer(&self.consumer);
        }
        while let Some(rebalance) = self.consumer.context().take_rebalance() {
            rebalance.answer(&self.consumer);
        }
        drop(self.consumer);
    }
}

pub(super) fn list_of<'p>(partitions: impl IntoIterator<Item = &'p Partition>) -> TopicPartitionList {
    let mut list = TopicPartitionList::new();
    for partition in partitions {
        list.add_partition(&partition.stream, partition.number);
    }
    list
}
