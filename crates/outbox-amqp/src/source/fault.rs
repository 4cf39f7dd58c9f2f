//! What errors of lapin and of the broker mean for a subscription.

use lapin::Error;
use outbox_core::inbox::{SourceError, SourceErrorKind};

use crate::connection::Unopened;
use crate::refusal::{Refusal, RefusalKind, Scope, scope};

impl From<Unopened> for SourceError {
    fn from(unopened: Unopened) -> Self {
        let kind = if unopened.is_refused { SourceErrorKind::Refused } else { SourceErrorKind::Unavailable };
        Self::new(kind, unopened.text)
    }
}

/// A queue that cannot be prepared or consumed from.
pub(super) fn refused(queue: &str, error: &Error) -> SourceError {
    let Scope::Channel(Refusal { kind, text }) = scope(error) else { return lost(queue, error) };
    let fix = match kind {
        RefusalKind::NotFound => "declare it, or let the source declare it (DeclaredQueue)",
        RefusalKind::AccessRefused if text.contains("in exclusive use") => {
            let message = format!("queue {queue}: {text}: another consumer has it to itself: end that one");
            return SourceError::new(SourceErrorKind::Unavailable, message);
        }
        RefusalKind::AccessRefused => {
            "grant the consumer's user read on the queue; to declare or check it also configure, and to bind it write on it and read on the \
             exchange"
        }
        RefusalKind::PreconditionFailed => {
            "it exists with other properties: name it without declaring it, declare it the same way, or delete it"
        }
        RefusalKind::Other => {
            let message = format!("queue {queue}: {text}: see the broker's log");
            return SourceError::new(SourceErrorKind::Unavailable, message);
        }
    };
    SourceError::new(SourceErrorKind::Refused, format!("queue {queue}: {text}: {fix}"))
}

/// A channel or the connection that ended under a consumer.
pub(super) fn lost(queue: &str, error: &Error) -> SourceError {
    let message = match scope(error) {
        Scope::Channel(Refusal { kind: RefusalKind::PreconditionFailed, text }) if text.contains("timed out") => {
            format!(
                "queue {queue}: {text}: a message was not acknowledged within the broker's consumer_timeout: it comes \
                 again; see why it takes so long, or lower prefetch"
            )
        }
        Scope::Channel(Refusal { text, .. }) => format!("queue {queue}: {text}: the inbox subscribes again"),
        Scope::Connection(reason) => format!("the connection is lost: {reason}: the inbox subscribes again"),
        Scope::ChannelGone => return closed(queue),
    };
    SourceError::new(SourceErrorKind::Unavailable, message)
}

/// A channel that is closed, without a word why.
pub(super) fn closed(queue: &str) -> SourceError {
    let message = format!("queue {queue}: its channel is closed: the inbox subscribes again");
    SourceError::new(SourceErrorKind::Unavailable, message)
}

/// A consumer that the broker has cancelled.
pub(super) fn cancelled(queue: &str) -> SourceError {
    let message = format!(
        "queue {queue}: the broker has cancelled the consumer: the queue was deleted, or its node is gone: the inbox \
         subscribes again"
    );
    SourceError::new(SourceErrorKind::Unavailable, message)
}

#[cfg(test)]
mod tests {
    use lapin::ErrorKind;
    use lapin::protocol::AMQPError;

    use super::*;

    fn error(id: u16, text: &str) -> Error {
        ErrorKind::ProtocolError(AMQPError::from_id(id, text.into()).unwrap()).into()
    }

    #[test]
    fn what_somebody_has_to_repair_is_refused_with_the_fix() {
        for (id, text, fix) in [
            (404, "NOT_FOUND - no queue 'billing' in vhost '/'", "declare it"),
            (
                403,
                "ACCESS_REFUSED - read access to queue 'billing' in vhost '/' refused",
                "grant the consumer's user read",
            ),
            (406, "PRECONDITION_FAILED - inequivalent arg 'durable'", "exists with other properties"),
        ] {
            let error = refused("billing", &error(id, text));
            assert_eq!(error.kind(), SourceErrorKind::Refused);
            let shown = error.to_string();
            assert!(shown.contains(text) && shown.contains(fix), "{shown}");
        }
    }

    #[test]
    fn what_passes_is_tried_again() {
        for (id, text) in [
            (403, "ACCESS_REFUSED - queue 'billing' in vhost '/' in exclusive use"),
            (405, "RESOURCE_LOCKED - cannot obtain exclusive access to locked queue 'billing'"),
            (320, "CONNECTION_FORCED - broker forced connection closure"),
        ] {
            assert_eq!(refused("billing", &error(id, text)).kind(), SourceErrorKind::Unavailable, "{text}");
        }
        let slow = "PRECONDITION_FAILED - delivery acknowledgement on channel 1 timed out";
        let slow = lost("billing", &error(406, slow));
        assert_eq!(slow.kind(), SourceErrorKind::Unavailable);
        assert!(slow.to_string().contains("consumer_timeout"), "{slow}");
    }
}
