use lapin::types::ShortString;
use outbox_core::ports::{Reason, RouteName};

/// Longest exchange name and routing key that AMQP 0-9-1 can carry, in bytes.
pub(crate) const MAX_NAME_BYTES: usize = 255;

/// Where a message goes: an exchange and a routing key, each of at most 255 bytes.
///
/// The empty exchange is the broker's default exchange; the routing key is then the name of a queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Destination {
    /// The exchange.
    pub exchange: String,
    /// The routing key.
    pub routing_key: String,
}

/// A destination in the form that goes on the wire.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Address {
    pub(crate) exchange: ShortString,
    pub(crate) routing_key: ShortString,
}

impl Destination {
    /// A destination.
    pub fn new(exchange: impl Into<String>, routing_key: impl Into<String>) -> Self {
        Self { exchange: exchange.into(), routing_key: routing_key.into() }
    }
}

/// The name of a route: the exchange, a slash, the routing key. A slash in the exchange's name is written `%2F`, so that two destinations never
/// have one name.
///
/// # Errors
///
/// Why no message can go there.
pub(crate) fn route_name(exchange: &str, routing_key: &str) -> Result<RouteName, Reason> {
    for (what, fix, text) in [
        ("exchange name", "shorten the names that the exchange is made of", exchange),
        ("routing key", "shorten aggregate_type and event_type, or use another routing key", routing_key),
    ] {
        if text.len() > MAX_NAME_BYTES {
            let bytes = text.len();
            return Err(Reason::new(format!("the {what} has {bytes} bytes, the limit is {MAX_NAME_BYTES}: {fix}")));
        }
    }
    if !exchange.contains(['/', '%']) {
        return Ok(RouteName::from(format!("{exchange}/{routing_key}")));
    }
    Ok(RouteName::from(format!("{}/{routing_key}", exchange.replace('%', "%25").replace('/', "%2F"))))
}

impl Address {
    /// The destination that a route's name was made of; `None` when it is no such name.
    pub(crate) fn of(route: &RouteName) -> Option<Self> {
        let (exchange, routing_key) = route.split_once('/')?;
        let exchange = exchange.replace("%2F", "/").replace("%25", "%");
        let exchange = ShortString::try_new(exchange).ok()?;
        Some(Self { exchange, routing_key: ShortString::try_new(routing_key).ok()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_route_leads_back_to_its_destination() {
        for (exchange, routing_key) in
            [("outbox", "order.placed"), ("", "orders"), ("a/b", "c/d"), ("a%2Fb", "c"), ("50%", "50%"), ("x", "")]
        {
            let address = Address::of(&route_name(exchange, routing_key).unwrap()).unwrap();
            assert_eq!((address.exchange.as_str(), address.routing_key.as_str()), (exchange, routing_key));
        }
    }

    #[test]
    fn two_destinations_never_share_a_route() {
        assert_ne!(route_name("a/b", "c").unwrap(), route_name("a", "b/c").unwrap());
    }

    #[test]
    fn a_name_that_amqp_cannot_carry_is_refused_with_its_size() {
        let reason = route_name("outbox", &"ü".repeat(150)).unwrap_err();
        assert!(reason.0.contains("the routing key has 300 bytes, the limit is 255"), "{reason}");
        assert!(route_name(&"x".repeat(256), "").is_err());
        assert!(route_name(&"x".repeat(255), &"y".repeat(255)).is_ok());
    }
}
