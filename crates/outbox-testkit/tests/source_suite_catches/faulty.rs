use std::collections::{BTreeSet, HashSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use outbox_core::inbox::*;
use outbox_testkit::BoxError;
use outbox_testkit::memory::MemorySource;
use outbox_testkit::source_suite::{Published, SourceFixture, TestStream};

/// What a source may do wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Defect {
    None,
    RefusesWithoutBroker,
    HangsWithoutBroker,
    DeliversTwice,
    DeliversBackwards,
    LosesMessages,
    DeliversNothing,
    AssignsNothing,
    LosesHeaders,
    LosesKeys,
    TruncatesPayloads,
    RenamesStreams,
    SaysRedelivered,
    LosesWhatIsCancelled,
    IgnoresPause,
    IgnoresResume,
    StartsAtTheEnd,
    ForgetsAcknowledgementsAtClose,
    AcknowledgesAllAtClose,
    AcknowledgesAtDelivery,
    HidesTheBrokersWord,
    MisplacesStarts,
    EndsOverStrangePartitions,
    GivesEachMemberEverything,
    KeepsPartitionsAfterClose,
    IgnoresAcknowledgementsOfTheRevoked,
}

/// The in-memory source with a defect.
pub(crate) struct FaultyFixture {
    inner: Box<dyn SourceFixture>,
    defect: Defect,
}

impl FaultyFixture {
    pub(crate) fn new(defect: Defect, acknowledging: Acknowledging) -> Self {
        Self { inner: Box::new(MemorySource::fixture(acknowledging)), defect }
    }
}

#[async_trait]
impl SourceFixture for FaultyFixture {
    async fn fresh(&self) -> Result<Box<dyn TestStream>, BoxError> {
        let inner = self.inner.fresh().await?;
        let source = Arc::new(FaultySource::new(inner.source(), self.defect));
        Ok(Box::new(FaultyStream { inner, source }))
    }

    async fn unreachable(&self) -> Result<Arc<dyn Source>, BoxError> {
        Ok(Arc::new(FaultySource::new(self.inner.unreachable().await?, self.defect)))
    }
}

struct FaultyStream {
    inner: Box<dyn TestStream>,
    source: Arc<FaultySource>,
}

#[async_trait]
impl TestStream for FaultyStream {
    fn source(&self) -> Arc<dyn Source> {
        self.source.clone()
    }

    fn consumer(&self) -> Consumer {
        self.inner.consumer()
    }

    fn name(&self) -> String {
        self.inner.name()
    }

    fn prefetch(&self) -> usize {
        self.inner.prefetch()
    }

    async fn publish(&self, messages: &[Published]) -> Result<(), BoxError> {
        if self.source.subscriptions.load(Ordering::Relaxed) == 0 {
            let payloads = messages.iter().map(|message| message.payload.clone());
            self.source.before.lock().expect("no panic under the lock").extend(payloads);
        }
        self.inner.publish(messages).await
    }

    async fn remove(self: Box<Self>) -> Result<(), BoxError> {
        self.inner.remove().await
    }
}

struct FaultySource {
    inner: Arc<dyn Source>,
    defect: Defect,
    subscriptions: AtomicUsize,
    /// Payloads that were published before the first subscription.
    before: Arc<Mutex<HashSet<Vec<u8>>>>,
}

impl FaultySource {
    fn new(inner: Arc<dyn Source>, defect: Defect) -> Self {
        Self { inner, defect, subscriptions: AtomicUsize::new(0), before: Arc::default() }
    }
}

#[async_trait]
impl Source for FaultySource {
    fn acknowledging(&self) -> Acknowledging {
        self.inner.acknowledging()
    }

    async fn subscribe(&self, consumer: &Consumer) -> Result<Box<dyn Subscription>, SourceError> {
        let number = self.subscriptions.fetch_add(1, Ordering::Relaxed);
        let mut consumer = consumer.clone();
        if self.defect == Defect::GivesEachMemberEverything {
            consumer = Consumer::new(&format!("{consumer}-{number}")).expect("a valid name");
        }
        match self.inner.subscribe(&consumer).await {
            Ok(inner) => Ok(Box::new(FaultySubscription {
                inner,
                defect: self.defect,
                before: self.before.clone(),
                assigned: BTreeSet::new(),
                delivered: Vec::new(),
                acknowledged: Vec::new(),
                is_revoking: false,
                is_broken: false,
            })),
            Err(_) if self.defect == Defect::HangsWithoutBroker => std::future::pending().await,
            Err(_) if self.defect == Defect::RefusesWithoutBroker => {
                Err(SourceError::new(SourceErrorKind::Refused, "no broker answers"))
            }
            Err(error) => Err(error),
        }
    }
}

struct FaultySubscription {
    inner: Box<dyn Subscription>,
    defect: Defect,
    before: Arc<Mutex<HashSet<Vec<u8>>>>,
    assigned: BTreeSet<Partition>,
    delivered: Vec<(Partition, i64)>,
    /// Acknowledgements that wait for the next call.
    acknowledged: Vec<(Partition, i64)>,
    is_revoking: bool,
    is_broken: bool,
}

impl FaultySubscription {
    /// What is told of an event; `None`: nothing.
    fn spoil(&mut self, event: SourceEvent) -> Option<SourceEvent> {
        match event {
            SourceEvent::Assigned(mut assigned) => {
                self.assigned.extend(assigned.iter().map(|one| one.partition.clone()));
                if self.defect == Defect::MisplacesStarts {
                    assigned.iter_mut().for_each(|one| one.start = Some(one.start.map_or(7, |start| start + 1)));
                }
                (self.defect != Defect::AssignsNothing).then_some(SourceEvent::Assigned(assigned))
            }
            SourceEvent::Delivered(messages) => {
                let places = messages.iter().map(|message| (message.partition.clone(), message.position));
                self.delivered.extend(places);
                if self.defect == Defect::AcknowledgesAtDelivery {
                    messages.iter().for_each(|message| self.inner.acknowledge(&message.partition, message.position));
                }
                let messages = self.spoil_messages(messages);
                (!messages.is_empty()).then_some(SourceEvent::Delivered(messages))
            }
            SourceEvent::Acknowledged(_) if self.defect == Defect::HidesTheBrokersWord => None,
            SourceEvent::Revoking(partitions) => {
                self.is_revoking = true;
                Some(SourceEvent::Revoking(partitions))
            }
            event => Some(event),
        }
    }

    fn spoil_messages(&self, mut messages: Vec<Incoming>) -> Vec<Incoming> {
        match self.defect {
            Defect::DeliversTwice => messages = [messages.clone(), messages].concat(),
            Defect::DeliversBackwards => messages.reverse(),
            Defect::LosesMessages => messages.retain(|message| message.position % 10 != 3),
            Defect::DeliversNothing => messages.clear(),
            Defect::StartsAtTheEnd => {
                let before = self.before.lock().expect("no panic under the lock");
                messages.retain(|message| !before.contains(message.payload.as_ref().map_or(&[][..], AsRef::as_ref)));
            }
            _ => {}
        }
        for message in &mut messages {
            match self.defect {
                Defect::LosesHeaders => message.headers = IncomingHeaders::default(),
                Defect::LosesKeys => message.key = None,
                Defect::TruncatesPayloads => {
                    let payload = message.payload.take().unwrap_or_default();
                    message.payload = Some(payload.as_ref()[..payload.as_ref().len().min(100)].to_vec().into());
                }
                Defect::RenamesStreams => message.partition = Partition::new("renamed", message.partition.number),
                Defect::SaysRedelivered => message.redelivered = true,
                _ => {}
            }
        }
        messages
    }
}

#[async_trait]
impl Subscription for FaultySubscription {
    async fn next(&mut self) -> Result<SourceEvent, SourceError> {
        self.is_revoking = false;
        for (partition, position) in self.acknowledged.drain(..) {
            self.inner.acknowledge(&partition, position);
        }
        loop {
            if self.is_broken {
                return Err(SourceError::new(SourceErrorKind::Unavailable, "a partition that nobody knows"));
            }
            let event = self.inner.next().await?;
            if self.defect == Defect::LosesWhatIsCancelled {
                tokio::time::sleep(Duration::from_millis(5)).await; // longer than the case waits
            }
            if let Some(event) = self.spoil(event) {
                return Ok(event);
            }
        }
    }

    fn acknowledge(&mut self, partition: &Partition, position: i64) {
        match self.defect {
            Defect::ForgetsAcknowledgementsAtClose => self.acknowledged.push((partition.clone(), position)),
            Defect::IgnoresAcknowledgementsOfTheRevoked if self.is_revoking => {}
            Defect::EndsOverStrangePartitions if !self.assigned.contains(partition) => self.is_broken = true,
            _ => self.inner.acknowledge(partition, position),
        }
    }

    fn pause(&mut self, partition: &Partition) {
        if self.defect != Defect::IgnoresPause {
            self.inner.pause(partition);
        }
    }

    fn resume(&mut self, partition: &Partition) {
        if self.defect != Defect::IgnoresResume {
            self.inner.resume(partition);
        }
    }

    async fn close(self: Box<Self>) -> Result<(), SourceError> {
        let Self { mut inner, defect, delivered, .. } = *self;
        match defect {
            Defect::AcknowledgesAllAtClose => {
                delivered.iter().for_each(|(partition, position)| inner.acknowledge(partition, *position));
            }
            Defect::KeepsPartitionsAfterClose => {
                std::mem::forget(inner);
                return Ok(());
            }
            _ => {}
        }
        inner.close().await
    }
}
