//! Where assigned partitions start.

use std::time::Duration;

use outbox_core::inbox::{SourceError, SourceErrorKind};
use rdkafka::consumer::Consumer as _;
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use super::StartAt;
use super::context::KafkaConsumer;
use super::fault::fault;

/// The list with the offset of each partition from which it starts. Blocks for up to three times `timeout`.
pub(super) fn resolve(
    consumer: &KafkaConsumer,
    list: &TopicPartitionList,
    start_at: StartAt,
    timeout: Duration,
) -> Result<TopicPartitionList, SourceError> {
    if list.count() == 0 {
        return Ok(TopicPartitionList::new());
    }
    // the offsets first: what is committed is never beyond an end that is asked for later
    let mut committed = placed(list, Offset::Invalid).map_err(|error| unknown(&error))?;
    committed = consumer.committed_offsets(committed, timeout).map_err(|error| unknown(&error))?;
    let ask = |place| consumer.offsets_for_times(placed(list, place)?, timeout);
    let oldest = ask(Offset::Beginning).map_err(|error| unknown(&error))?;
    let ends = ask(Offset::End).map_err(|error| unknown(&error))?;

    let mut starts = TopicPartitionList::with_capacity(list.count());
    for element in committed.elements() {
        let (topic, partition) = (element.topic(), element.partition());
        let oldest = offset_of(&oldest, topic, partition)?;
        let end = offset_of(&ends, topic, partition)?;
        let bounds = Bounds {
            committed: offset_of(&committed, topic, partition)?,
            oldest: oldest.ok_or_else(|| untold(topic, partition))?,
            end: end.ok_or_else(|| untold(topic, partition))?,
        };
        let start = bounds.start(start_at);
        if let Some(committed) = bounds.committed.filter(|committed| *committed != start) {
            let (oldest, end) = (bounds.oldest, bounds.end);
            tracing::warn!(
                topic,
                partition,
                committed,
                oldest,
                end,
                start,
                "the committed offset is not in the partition any more: messages were deleted before they were received, \
                 or the topic was created anew"
            );
        }
        starts.add_partition_offset(topic, partition, Offset::Offset(start)).map_err(|error| unknown(&error))?;
    }
    Ok(starts)
}

/// What is known of a partition, in offsets.
struct Bounds {
    committed: Option<i64>,
    oldest: i64,
    end: i64,
}

impl Bounds {
    fn start(&self, start_at: StartAt) -> i64 {
        match (self.committed, start_at) {
            (Some(committed), _) if (self.oldest..=self.end).contains(&committed) => committed,
            // never skip what is there, whatever a group without offsets would do
            (Some(_), _) | (None, StartAt::Earliest) => self.oldest,
            (None, StartAt::Latest) => self.end,
        }
    }
}

fn placed(list: &TopicPartitionList, place: Offset) -> KafkaResult<TopicPartitionList> {
    let mut placed = TopicPartitionList::with_capacity(list.count());
    for element in list.elements() {
        placed.add_partition_offset(element.topic(), element.partition(), place)?;
    }
    Ok(placed)
}

/// `None`: there is none.
fn offset_of(list: &TopicPartitionList, topic: &str, partition: i32) -> Result<Option<i64>, SourceError> {
    let element = list.find_partition(topic, partition).ok_or_else(|| untold(topic, partition))?;
    element.error().map_err(|error| unknown(&error))?;
    Ok(match element.offset() {
        Offset::Offset(offset) => Some(offset),
        _ => None,
    })
}

fn untold(topic: &str, partition: i32) -> SourceError {
    let message = format!("no broker told where partition {partition} of topic {topic} starts and ends");
    SourceError::new(SourceErrorKind::Unavailable, message)
}

fn unknown(error: &KafkaError) -> SourceError {
    let what = "asking where partitions start";
    fault(error, Some(what)).unwrap_or_else(|| {
        let message = format!("{what} failed: {error}: the inbox subscribes again");
        SourceError::new(SourceErrorKind::Unavailable, message)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn start(committed: Option<i64>, start_at: StartAt) -> i64 {
        Bounds { committed, oldest: 10, end: 20 }.start(start_at)
    }

    #[test]
    fn a_committed_offset_within_the_partition_is_the_start() {
        for committed in [10, 15, 20] {
            assert_eq!(start(Some(committed), StartAt::Latest), committed);
        }
    }

    #[test]
    fn without_an_offset_the_setting_says_where() {
        assert_eq!(start(None, StartAt::Earliest), 10);
        assert_eq!(start(None, StartAt::Latest), 20);
    }

    #[test]
    fn an_offset_outside_of_the_partition_starts_at_the_oldest_message_whatever_the_setting() {
        for start_at in [StartAt::Earliest, StartAt::Latest] {
            assert_eq!(start(Some(9), start_at), 10, "deleted by retention");
            assert_eq!(start(Some(21), start_at), 10, "created anew");
        }
    }
}
