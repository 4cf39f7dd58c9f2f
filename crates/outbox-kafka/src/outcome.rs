use outbox_core::ports::{Outcome, Reason};
use rdkafka::error::RDKafkaErrorCode as Code;

/// What a failed delivery means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The message was purged because its session ends: the end of the session speaks for it.
    Purged,
    /// This message failed.
    Message(Outcome),
    /// The producer is of no use any more.
    Session(Reason),
}

/// The verdict on a message for `topic` that librdkafka gave up with `code`, at hand-over or in its delivery report.
///
/// librdkafka retries by itself, without end, whatever may pass (a leader that moves, replicas that are missing): such a code that is reported
/// all the same ends the session, so that the message is sent again. Only what is about the record itself may lead to a dead letter.
pub(crate) fn verdict(code: Code, topic: &str) -> Verdict {
    let paused = |fix: &str| Verdict::Message(Outcome::RoutePaused(reason(code, topic, fix)));
    match code {
        Code::PurgeQueue | Code::PurgeInflight => Verdict::Purged,

        Code::UnknownTopic | Code::UnknownTopicOrPartition => {
            paused("create the topic, or correct the route that leads to it")
        }
        Code::UnknownPartition => paused("the topic has fewer partitions than when it was opened"),
        Code::InvalidTopic => paused("correct the route that leads to it"),
        Code::TopicAuthorizationFailed => paused("grant the relay's principal Describe and Write on the topic"),
        Code::PolicyViolation => paused("the broker's policy forbids it: see the broker's log"),
        Code::UnsupportedCompressionType => paused("the topic or broker does not take this compression.type"),
        Code::UnsupportedForMessageFormat => {
            paused("the topic has a message format of before Kafka 0.11: raise message.format.version")
        }

        // Records carry the time of their hand-over: one that is refused says nothing about the message and the next ones fail too.
        Code::InvalidTimestamp => paused("check the relay's clock and message.timestamp.* of the topic"),

        // Brokers answer for a whole batch; only the message that fails alone is at fault.
        Code::MessageSizeTooLarge | Code::MessageBatchTooLarge | Code::InvalidMessageSize => {
            quarantine(code, topic, "send less, or raise max.message.bytes of the topic")
        }
        Code::InvalidRecord | Code::InvalidMessage | Code::InvalidDifferentRecord => {
            quarantine(code, topic, "the broker refuses the record: a compacted topic needs a key")
        }

        Code::ClusterAuthorizationFailed => Verdict::Session(reason(
            code,
            topic,
            "grant the relay's principal IdempotentWrite on the cluster (before Kafka 2.8)",
        )),

        // Local codes: the connection, the producer's state, its destruction.
        local if (local as i32) < 0 => Verdict::Session(reason(local, topic, "the messages in flight are sent again")),

        // Transient by their nature: librdkafka retries them, and their end says nothing about the record.
        Code::LeaderNotAvailable
        | Code::NotLeaderForPartition
        | Code::RequestTimedOut
        | Code::BrokerNotAvailable
        | Code::ReplicaNotAvailable
        | Code::NetworkException
        | Code::CoordinatorLoadInProgress
        | Code::CoordinatorNotAvailable
        | Code::NotCoordinator
        | Code::NotEnoughReplicas
        | Code::NotEnoughReplicasAfterAppend
        | Code::OutOfOrderSequenceNumber
        | Code::DuplicateSequenceNumber
        | Code::InvalidProducerEpoch
        | Code::InvalidProducerIdMapping
        | Code::UnknownProducerId
        | Code::ProducerFenced
        | Code::KafkaStorageError
        | Code::ThrottlingQuotaExceeded
        | Code::FencedLeaderEpoch
        | Code::UnknownLeaderEpoch
        | Code::StaleBrokerEpoch
        | Code::UnsupportedVersion
        | Code::InvalidRequiredAcks
        | Code::SaslAuthenticationFailed
        | Code::SecurityDisabled => Verdict::Session(reason(code, topic, "the messages in flight are sent again")),

        unforeseen => Verdict::Message(Outcome::Retry(reason(unforeseen, topic, "see the broker's log"))),
    }
}

fn quarantine(code: Code, topic: &str, fix: &str) -> Verdict {
    Verdict::Message(Outcome::Quarantine(reason(code, topic, fix)))
}

fn reason(code: Code, topic: &str, fix: &str) -> Reason {
    Reason::new(format!("topic {topic}: {code}: {fix}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(code: Code) -> Outcome {
        match verdict(code, "order") {
            Verdict::Message(outcome) => outcome,
            other => panic!("{code:?} gave {other:?}"),
        }
    }

    #[test]
    fn a_size_or_record_error_of_a_batch_names_no_single_message() {
        for code in [Code::MessageSizeTooLarge, Code::MessageBatchTooLarge, Code::InvalidRecord] {
            assert!(matches!(outcome(code), Outcome::Quarantine(_)), "{code:?}");
        }
    }

    #[test]
    fn what_concerns_the_topic_pauses_its_route_and_burns_no_attempt() {
        for code in
            [Code::UnknownTopic, Code::UnknownTopicOrPartition, Code::TopicAuthorizationFailed, Code::InvalidTimestamp]
        {
            let Outcome::RoutePaused(reason) = outcome(code) else { panic!("{code:?}") };
            assert!(reason.0.contains("order"), "{reason}");
        }
    }

    #[test]
    fn what_concerns_the_producer_or_the_connection_ends_the_session() {
        for code in [
            Code::Fatal,
            Code::GaplessGuarantee,
            Code::BrokerTransportFailure,
            Code::AllBrokersDown,
            Code::MessageTimedOut,
            Code::OperationTimedOut,
            Code::Authentication,
            Code::OutOfOrderSequenceNumber,
            Code::NotEnoughReplicas,
        ] {
            assert!(matches!(verdict(code, "order"), Verdict::Session(_)), "{code:?}");
        }
    }

    #[test]
    fn a_purged_message_is_left_to_the_end_of_its_session() {
        assert_eq!(verdict(Code::PurgeQueue, "order"), Verdict::Purged);
        assert_eq!(verdict(Code::PurgeInflight, "order"), Verdict::Purged);
    }
}
