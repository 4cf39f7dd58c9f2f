use outbox_core::inbox::{SourceError, SourceErrorKind};
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};

/// What an error that a consumer told means; `None`: librdkafka goes on by itself.
pub(super) fn fault(error: &KafkaError, text: Option<&str>) -> Option<SourceError> {
    let is_fatal = matches!(error, KafkaError::MessageConsumptionFatal(_));
    let code = error.rdkafka_error_code().unwrap_or(Code::Fail);
    if waits(code) && !is_fatal {
        return None;
    }
    let text = text.unwrap_or("no details");
    let (kind, fix) = match refusal(code) {
        Some(fix) => (SourceErrorKind::Refused, fix),
        None => (SourceErrorKind::Unavailable, "the inbox subscribes again"),
    };
    let severity = if is_fatal { "fatal kafka consumer error" } else { "kafka consumer error" };
    Some(SourceError::new(kind, format!("{severity}: {code}: {text}: {fix}")))
}

/// What somebody has to do about a code, when nothing else helps.
pub(super) fn refusal(code: Code) -> Option<&'static str> {
    Some(match code {
        Code::TopicAuthorizationFailed => "grant the consumer's principal Describe and Read on the topic",
        Code::GroupAuthorizationFailed => {
            "grant the consumer's principal Read on the group, which has the consumer's name"
        }
        Code::SaslAuthenticationFailed | Code::Authentication => "correct the SASL properties",
        Code::SSL => "correct the TLS properties",
        Code::UnknownTopic | Code::UnknownTopicOrPartition => "create the topic, or correct its name",
        Code::InvalidTopic => "correct the topic's name",
        Code::InconsistentGroupProtocol => {
            "all members of the group must use cooperative-sticky: stop the others first"
        }
        Code::GroupMaxSizeReached => "run fewer consumers, or raise group.max.size of the broker",
        Code::InvalidSessionTimeout => "set session.timeout.ms within the limits of the broker",
        Code::InvalidMessage | Code::BadMessage | Code::BadCompression | Code::NotImplemented => {
            "a batch cannot be read (its checksum is wrong, or its compression is not built in): \
             the partition cannot go on before it is removed"
        }
        _ => return None,
    })
}

/// Codes of what passes by itself: librdkafka connects again, finds the new leader or coordinator, and joins again.
fn waits(code: Code) -> bool {
    matches!(
        code,
        Code::BrokerTransportFailure
            | Code::AllBrokersDown
            | Code::Resolve
            | Code::OperationTimedOut
            | Code::RequestTimedOut
            | Code::PollExceeded
            | Code::WaitingForCoordinator
            | Code::CoordinatorLoadInProgress
            | Code::CoordinatorNotAvailable
            | Code::NotCoordinator
            | Code::LeaderNotAvailable
            | Code::NotLeaderForPartition
            | Code::BrokerNotAvailable
            | Code::ReplicaNotAvailable
            | Code::RebalanceInProgress
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_passes_by_itself_ends_nothing() {
        assert!(fault(&KafkaError::MessageConsumption(Code::AllBrokersDown), None).is_none());
        assert!(fault(&KafkaError::MessageConsumptionFatal(Code::AllBrokersDown), None).is_some());
    }

    #[test]
    fn what_somebody_has_to_repair_says_how() {
        for code in [Code::TopicAuthorizationFailed, Code::BadMessage, Code::UnknownTopicOrPartition] {
            let error = fault(&KafkaError::MessageConsumption(code), Some("details")).unwrap();
            assert_eq!(error.kind(), SourceErrorKind::Refused);
            assert!(error.to_string().ends_with(refusal(code).unwrap()), "{error}");
        }
    }

    #[test]
    fn the_rest_ends_the_subscription_and_is_tried_again() {
        for code in [Code::AutoOffsetReset, Code::Fatal, Code::Fail] {
            let error = fault(&KafkaError::MessageConsumption(code), Some("details")).unwrap();
            assert_eq!(error.kind(), SourceErrorKind::Unavailable);
            assert!(error.to_string().contains("details"), "{error}");
        }
    }
}
