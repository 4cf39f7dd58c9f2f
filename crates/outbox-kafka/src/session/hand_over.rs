use outbox_core::ports::{Outcome, Outgoing, Reason};
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::producer::{BaseRecord, Producer as _};

use super::KafkaSession;
use crate::RecordHeaders;
use crate::outcome::{Verdict, verdict};

/// Headers of a CloudEvent, so that librdkafka's list does not grow.
const USUAL_HEADERS: usize = 8;

/// What became of one hand-over.
pub(super) enum HandedOver {
    /// librdkafka has it; a report will come.
    Taken,
    /// No room: try again.
    QueueFull,
    /// It was not taken and will not be.
    Refused(Outcome),
    /// The session fails: its end speaks for the message.
    SessionEnds,
}

impl KafkaSession {
    pub(super) fn hand_over(&self, outgoing: &Outgoing) -> HandedOver {
        let deliveries = self.producer.context();
        if !deliveries.is_open() {
            return HandedOver::SessionEnds;
        }
        let Some(destination) = self.routes.destination(outgoing.slot) else {
            let text = format!("topic {}: the route is not open in this session", outgoing.route);
            return HandedOver::Refused(Outcome::RoutePaused(Reason::new(text)));
        };
        let message = &*outgoing.message;
        let mut headers = RecordHeaders::with_capacity(USUAL_HEADERS);
        self.shared.encoder.encode(message, &mut headers);
        if let Some(limit) = destination.max_batch_bytes {
            let bytes =
                headers.batch_bytes(message.aggregate_id.as_deref().map(str::len), message.payload.as_ref().len());
            if bytes > limit {
                return HandedOver::Refused(Outcome::Reject(Reason::new(too_large(&outgoing.route, bytes, limit))));
            }
        }
        let key = deliveries.window().insert(outgoing.ticket, outgoing.slot.0);
        let mut record: BaseRecord<'_, str, [u8], usize> = BaseRecord::with_opaque_to(&outgoing.route, key)
            .partition(destination.partition)
            .payload(message.payload.as_ref())
            .headers(headers.into_native());
        record.key = message.aggregate_id.as_deref();
        let Err((error, _)) = self.producer.send(record) else { return HandedOver::Taken };
        deliveries.window().withdraw(key);
        self.refused(outgoing, error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Fail))
    }

    fn refused(&self, outgoing: &Outgoing, code: RDKafkaErrorCode) -> HandedOver {
        match code {
            RDKafkaErrorCode::QueueFull => HandedOver::QueueFull,
            RDKafkaErrorCode::MessageSizeTooLarge => {
                let limit = self.shared.properties.max_message_bytes;
                let text = format!(
                    "topic {}: the message is over message.max.bytes, which is {limit} bytes with key and headers: \
                     raise the property and max.message.bytes of the topic, or send a reference",
                    outgoing.route
                );
                HandedOver::Refused(Outcome::Reject(Reason::new(text)))
            }
            code => match verdict(code, &outgoing.route) {
                Verdict::Message(outcome) => HandedOver::Refused(outcome),
                Verdict::Session(reason) => {
                    self.producer.context().fail(reason);
                    HandedOver::SessionEnds
                }
                Verdict::Purged => HandedOver::SessionEnds,
            },
        }
    }
}

fn too_large(topic: &str, bytes: usize, limit: usize) -> String {
    format!(
        "topic {topic}: the message takes {bytes} bytes with key and headers, max.message.bytes of the topic is {limit}: \
         raise it, or send a reference"
    )
}
