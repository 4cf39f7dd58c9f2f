use std::io;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;
use std::time::{Duration, Instant};

use outbox_core::inbox::{Partition, SourceError, SourceErrorKind};
use rdkafka::consumer::{CommitMode, Consumer as _};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use super::context::KafkaConsumer;
use super::fault::refusal;

/// How long a commit that failed rests before the next.
const AFTER_A_FAILURE: Duration = Duration::from_millis(500);

/// Commits, on a thread of their own. One at most is on its way, so that an older one can never come after a newer one.
///
/// That thread waits for each answer, because rdkafka 0.39 never hears of the others: librdkafka answers a commit that nobody waits for through a
/// callback that rdkafka does not set.
pub(super) struct Commits {
    interval: Duration,
    due: Instant,
    in_flight: bool,
    last_error: Option<KafkaError>,
    requests: Sender<Request>,
    answers: Receiver<Answer>,
}

/// A commit holds the consumer until it is answered.
struct Request {
    consumer: Arc<KafkaConsumer>,
    offsets: Vec<(Partition, i64)>,
}

/// An error may have committed some of the offsets.
struct Answer {
    result: KafkaResult<()>,
    offsets: Vec<(Partition, i64)>,
}

impl Commits {
    pub(super) fn start(interval: Duration) -> io::Result<Self> {
        let (requests, asked) = mpsc::channel();
        let (answer, answers) = mpsc::channel();
        let serve = move || {
            for Request { consumer, offsets } in asked {
                let result = commit(&consumer, &offsets);
                drop(consumer);
                if answer.send(Answer { result, offsets }).is_err() {
                    return;
                }
            }
        };
        thread::Builder::new().name("outbox-kafka-commits".to_owned()).spawn(serve)?;
        Ok(Self { interval, due: Instant::now(), in_flight: false, last_error: None, requests, answers })
    }

    pub(super) fn is_due(&self, now: Instant) -> bool {
        !self.in_flight && now >= self.due
    }

    pub(super) fn is_in_flight(&self) -> bool {
        self.in_flight
    }

    /// Begins a commit of these offsets, unless one is on its way or there are none.
    pub(super) fn begin(&mut self, consumer: &Arc<KafkaConsumer>, offsets: Vec<(Partition, i64)>) {
        if self.in_flight || offsets.is_empty() {
            return;
        }
        self.due = Instant::now() + self.interval;
        // the thread lives as long as this does
        self.in_flight = self.requests.send(Request { consumer: consumer.clone(), offsets }).is_ok();
    }

    /// The offsets that the broker holds since the last look.
    ///
    /// # Errors
    ///
    /// When somebody has to act before a commit can succeed.
    pub(super) fn answered(&mut self) -> Result<Vec<(Partition, i64)>, SourceError> {
        let Ok(answer) = self.answers.try_recv() else { return Ok(Vec::new()) };
        self.in_flight = false;
        let Err(error) = answer.result else { return Ok(answer.offsets) };
        tracing::debug!(%error, "a commit was refused");
        self.due = Instant::now() + self.interval.max(AFTER_A_FAILURE);
        let code = error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Fail);
        self.last_error = Some(error);
        match refusal(code) {
            Some(fix) => {
                let message = format!("committing offsets failed: {code}: {fix}");
                Err(SourceError::new(SourceErrorKind::Refused, message))
            }
            None => Ok(Vec::new()),
        }
    }

    /// The error of commits that found no end.
    pub(super) fn unanswered(&self, partitions: usize, waited: Duration) -> SourceError {
        let message = format!(
            "the offsets of {partitions} partitions were not committed within {waited:?}: their messages come again"
        );
        let error = SourceError::new(SourceErrorKind::Unavailable, message);
        match &self.last_error {
            Some(cause) => error.with_source(cause.clone()),
            None => error,
        }
    }
}

fn commit(consumer: &KafkaConsumer, offsets: &[(Partition, i64)]) -> KafkaResult<()> {
    let mut list = TopicPartitionList::with_capacity(offsets.len());
    for (partition, offset) in offsets {
        list.add_partition_offset(&partition.stream, partition.number, Offset::Offset(*offset))?;
    }
    consumer.commit(&list, CommitMode::Sync)
}
