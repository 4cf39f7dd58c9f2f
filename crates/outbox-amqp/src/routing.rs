use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use outbox_core::Message;
use outbox_core::ports::{Reason, RouteName};
use rustc_hash::FxBuildHasher;

use crate::Destination;
use crate::destination::route_name;
use crate::template::Template;

/// Exchanges and routing keys that are kept; more only cost a new name for each message.
const MAX_KNOWN: usize = 10_000;

/// Chooses the route of a message.
pub(crate) struct Routing {
    choice: Choice,
    /// Names of routes, by exchange and routing key.
    known: Mutex<Known>,
}

pub(crate) enum Choice {
    Templates { exchange: Template, routing_key: Template },
    Closure(DestinationFn),
}

pub(crate) type DestinationFn = Box<dyn Fn(&Message) -> Destination + Send + Sync>;

#[derive(Default)]
struct Known {
    routes: HashMap<String, HashMap<String, RouteName, FxBuildHasher>, FxBuildHasher>,
    count: usize,
}

impl Routing {
    pub(crate) fn new(choice: Choice) -> Self {
        Self { choice, known: Mutex::default() }
    }

    /// The route, or why there is none.
    pub(crate) fn route(&self, message: &Message) -> Result<RouteName, Reason> {
        match &self.choice {
            Choice::Templates { exchange, routing_key } => {
                self.named(&exchange.render(message), &routing_key.render(message))
            }
            Choice::Closure(destination) => {
                let Destination { exchange, routing_key } = destination(message);
                self.named(&exchange, &routing_key)
            }
        }
    }

    fn named(&self, exchange: &str, routing_key: &str) -> Result<RouteName, Reason> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(route) = known.routes.get(exchange).and_then(|keys| keys.get(routing_key)) {
            return Ok(route.clone());
        }
        let route = route_name(exchange, routing_key)?;
        if known.count >= MAX_KNOWN {
            *known = Known::default();
        }
        known.count += 1;
        known.routes.entry(exchange.to_owned()).or_default().insert(routing_key.to_owned(), route.clone());
        Ok(route)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::message;

    #[test]
    fn one_destination_is_one_route() {
        let exchange = Template::parse("exchange", "shop").unwrap();
        let routing_key = Template::parse("routing_key", "{aggregate_type}.{event_type}").unwrap();
        let routing = Routing::new(Choice::Templates { exchange, routing_key });
        let first = routing.route(&message("order", None)).unwrap();
        let second = routing.route(&message("order", Some("7"))).unwrap();
        assert_eq!(&*first, "shop/order.order.placed");
        assert!(std::sync::Arc::ptr_eq(&first, &second));
    }

    #[test]
    fn a_closure_may_choose_by_the_whole_message() {
        let by_key = |message: &Message| Destination::new("", message.aggregate_id.clone().unwrap_or_default());
        let routing = Routing::new(Choice::Closure(Box::new(by_key)));
        assert_eq!(&*routing.route(&message("order", Some("7"))).unwrap(), "/7");
    }

    #[test]
    fn a_routing_key_that_is_too_long_is_a_reason_to_reject() {
        let routing = Routing::new(Choice::Closure(Box::new(|_| Destination::new("shop", "k".repeat(300)))));
        let reason = routing.route(&message("order", None)).unwrap_err();
        assert!(reason.0.contains("routing key has 300 bytes"), "{reason}");
    }
}
