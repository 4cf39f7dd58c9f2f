use lapin::protocol::{AMQPErrorKind, AMQPSoftError};
use lapin::{Error, ErrorKind};
use outbox_core::ports::{Outcome, Reason};

use crate::destination::Address;

/// What an error of lapin or of the broker concerns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Scope {
    /// One channel: the broker refused something that was done on it.
    Channel(Refusal),
    /// A channel, without a word why; the first error that it reported says more.
    ChannelGone,
    /// The connection.
    Connection(Reason),
}

/// Why the broker closed a channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) kind: RefusalKind,
    /// The code and what the broker said.
    pub(crate) text: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RefusalKind {
    /// 404: there is no such exchange or queue.
    NotFound,
    /// 403: the user may not.
    AccessRefused,
    /// 406: it exists with other properties, or a message breaks a rule (size, expiration, user id).
    PreconditionFailed,
    /// Any other.
    Other,
}

impl Refusal {
    /// What it means for a message that failed alone on its channel.
    pub(crate) fn of_one(&self, route: &str) -> Outcome {
        match self.kind {
            RefusalKind::NotFound | RefusalKind::AccessRefused => self.paused(route),
            RefusalKind::PreconditionFailed | RefusalKind::Other => {
                Outcome::Reject(Reason::new(format!("route {route}: the broker refuses the message: {}", self.text)))
            }
        }
    }

    /// What it means for one of several messages that were open on a channel. `one_route`: all of them have its route.
    pub(crate) fn of_several(&self, route: &str, address: &Address, one_route: bool) -> Outcome {
        match self.kind {
            RefusalKind::NotFound | RefusalKind::AccessRefused if one_route || self.names(address) => {
                self.paused(route)
            }
            _ => Outcome::Quarantine(Reason::new(format!("the broker closed the channel: {}", self.text))),
        }
    }

    /// Whether the broker's words name where a message goes: its exchange, or, where permissions are by topic, its routing key too.
    fn names(&self, address: &Address) -> bool {
        let is_about_topic = self.text.contains("access to topic '");
        self.text.contains(&format!("exchange '{}'", address.exchange))
            && (!is_about_topic || self.text.contains(&format!("access to topic '{}'", address.routing_key)))
    }

    pub(crate) fn paused(&self, route: &str) -> Outcome {
        let fix = match self.kind {
            RefusalKind::NotFound => {
                "declare the exchange (or the queue of the default exchange), or let the transport declare it"
            }
            RefusalKind::AccessRefused => "grant the relay's user write (and, to declare, configure) on the exchange",
            RefusalKind::PreconditionFailed => {
                "it exists with other properties: check it only, or declare it the same way"
            }
            RefusalKind::Other => "see the broker's log",
        };
        Outcome::RoutePaused(Reason::new(format!("route {route}: {}: {fix}", self.text)))
    }
}

/// What an error concerns.
pub(crate) fn scope(error: &Error) -> Scope {
    match error.kind() {
        ErrorKind::ProtocolError(refused) => match refused.kind() {
            AMQPErrorKind::Soft(soft) => {
                let kind = match soft {
                    AMQPSoftError::NOTFOUND => RefusalKind::NotFound,
                    AMQPSoftError::ACCESSREFUSED => RefusalKind::AccessRefused,
                    AMQPSoftError::PRECONDITIONFAILED => RefusalKind::PreconditionFailed,
                    _ => RefusalKind::Other,
                };
                Scope::Channel(Refusal { kind, text: fault(error) })
            }
            AMQPErrorKind::Hard(_) => Scope::Connection(Reason::new(fault(error))),
        },
        ErrorKind::InvalidChannel(_) | ErrorKind::InvalidChannelState(..) => Scope::ChannelGone,
        _ => Scope::Connection(Reason::new(fault(error))),
    }
}

/// An error as text for people: the broker's own code and words, when it said any.
pub(crate) fn fault(error: &Error) -> String {
    match error.kind() {
        ErrorKind::ProtocolError(refused) => format!("{} {}", refused.get_id(), refused.get_message()),
        _ => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use lapin::protocol::AMQPError;

    use super::*;

    fn refusal(id: u16, text: &str) -> Refusal {
        let error = ErrorKind::ProtocolError(AMQPError::from_id(id, text.into()).unwrap()).into();
        match scope(&error) {
            Scope::Channel(refusal) => refusal,
            other => panic!("{other:?}"),
        }
    }

    fn address(exchange: &str, routing_key: &str) -> Address {
        Address { exchange: exchange.into(), routing_key: routing_key.into() }
    }

    #[test]
    fn a_missing_exchange_pauses_the_routes_that_lead_to_it_and_no_other() {
        let refusal = refusal(404, "NOT_FOUND - no exchange 'shop' in vhost '/'");
        assert!(matches!(refusal.of_one("shop/a"), Outcome::RoutePaused(_)));
        assert!(matches!(refusal.of_several("shop/a", &address("shop", "a"), false), Outcome::RoutePaused(_)));
        assert!(matches!(refusal.of_several("other/a", &address("other", "a"), false), Outcome::Quarantine(_)));
        let outcome = refusal.of_several("x/a", &address("x", "a"), true);
        let Outcome::RoutePaused(reason) = outcome else { panic!("not paused") };
        assert!(reason.0.contains("404 NOT_FOUND") && reason.0.contains("declare the exchange"), "{reason}");
    }

    #[test]
    fn a_missing_permission_pauses_the_routes_that_it_concerns() {
        let exchange = refusal(403, "ACCESS_REFUSED - access to exchange 'shop' in vhost '/' refused for user 'relay'");
        assert!(matches!(exchange.of_one("shop/a"), Outcome::RoutePaused(_)));
        assert!(matches!(exchange.of_several("shop/b", &address("shop", "b"), false), Outcome::RoutePaused(_)));
        let topic = refusal(
            403,
            "ACCESS_REFUSED - access to topic 'a' in exchange 'shop' in vhost '/' refused for user 'relay'",
        );
        assert!(matches!(topic.of_several("shop/a", &address("shop", "a"), false), Outcome::RoutePaused(_)));
        assert!(matches!(topic.of_several("shop/b", &address("shop", "b"), false), Outcome::Quarantine(_)));
    }

    #[test]
    fn only_a_message_that_fails_alone_is_rejected() {
        let refusal = refusal(406, "PRECONDITION_FAILED - message size 9 is larger than configured max size 8");
        assert!(matches!(refusal.of_several("shop/a", &address("shop", "a"), true), Outcome::Quarantine(_)));
        let Outcome::Reject(reason) = refusal.of_one("shop/a") else { panic!("not rejected") };
        assert!(reason.0.contains("406 PRECONDITION_FAILED - message size"), "{reason}");
    }

    #[test]
    fn what_concerns_the_connection_ends_the_session() {
        let hard: Error = ErrorKind::ProtocolError(AMQPError::from_id(501, "FRAME_ERROR".into()).unwrap()).into();
        assert!(matches!(scope(&hard), Scope::Connection(_)));
        assert!(matches!(scope(&ErrorKind::MissingHeartbeatError.into()), Scope::Connection(_)));
        assert_eq!(scope(&ErrorKind::InvalidChannel(3).into()), Scope::ChannelGone);
    }
}
