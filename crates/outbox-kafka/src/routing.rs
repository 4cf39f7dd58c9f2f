use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};

use outbox_core::Message;
use outbox_core::ports::{Reason, RouteName};
use rustc_hash::FxBuildHasher;

use crate::topic::{TopicTemplate, topic_fault};

/// Names that are kept; more only cost a check for each message.
const MAX_KNOWN: usize = 10_000;

/// Chooses the topic of a message.
pub(crate) struct Routing {
    choice: TopicChoice,
    /// Topic names that were found valid.
    known: Mutex<HashSet<RouteName, FxBuildHasher>>,
}

pub(crate) enum TopicChoice {
    Template(TopicTemplate),
    Closure(TopicFn),
}

pub(crate) type TopicFn = Box<dyn Fn(&Message) -> String + Send + Sync>;

impl Routing {
    pub(crate) fn new(choice: TopicChoice) -> Self {
        Self { choice, known: Mutex::default() }
    }

    /// The topic, or why it can be none.
    pub(crate) fn topic(&self, message: &Message) -> Result<RouteName, Reason> {
        match &self.choice {
            TopicChoice::Template(template) => self.checked(&template.render(message)),
            TopicChoice::Closure(topic) => self.checked(&topic(message)),
        }
    }

    fn checked(&self, name: &str) -> Result<RouteName, Reason> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(route) = known.get(name) {
            return Ok(route.clone());
        }
        if let Some(fault) = topic_fault(name) {
            return Err(Reason::new(format!("{fault}: correct the aggregate_type or the relay's topic template")));
        }
        if known.len() >= MAX_KNOWN {
            known.clear();
        }
        let route = RouteName::from(name);
        known.insert(route.clone());
        Ok(route)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::message;

    #[test]
    fn one_topic_is_one_route() {
        let routing = Routing::new(TopicChoice::Template(TopicTemplate::parse("{aggregate_type}").unwrap()));
        let first = routing.topic(&message("order", None)).unwrap();
        let second = routing.topic(&message("order", Some("7"))).unwrap();
        assert_eq!(&*first, "order");
        assert!(std::sync::Arc::ptr_eq(&first, &second));
    }

    #[test]
    fn a_closure_may_choose_by_the_whole_message() {
        let routing = Routing::new(TopicChoice::Closure(Box::new(|message| format!("{}-x", message.event_type))));
        assert_eq!(&*routing.topic(&message("order", None)).unwrap(), "order.placed-x");
    }

    #[test]
    fn an_impossible_topic_is_a_reason_to_reject() {
        let routing = Routing::new(TopicChoice::Template(TopicTemplate::parse("{aggregate_type}").unwrap()));
        let reason = routing.topic(&message("my orders", None)).unwrap_err();
        assert!(reason.0.contains("holds ' '"), "{reason}");
    }
}
