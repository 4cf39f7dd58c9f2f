use outbox_core::ports::{RouteName, Ticket};
use slab::Slab;

/// What a session has handed to librdkafka and has no report of, by message and by slot.
#[derive(Debug, Default)]
pub(crate) struct Window {
    messages: Slab<InFlight>,
    slots: Vec<SlotLoad>,
}

#[derive(Debug, Clone, Copy)]
struct InFlight {
    ticket: Ticket,
    slot: u32,
}

/// One partition of one topic.
#[derive(Debug)]
pub(crate) struct SlotLoad {
    pub(crate) topic: RouteName,
    pub(crate) partition: i32,
    /// Messages handed over and not reported.
    pub(crate) in_flight: u32,
    /// Reports so far; only its changes matter.
    pub(crate) reported: u64,
}

/// A message whose report arrived.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Reported {
    pub(crate) ticket: Ticket,
    /// Whether its slot still has messages without a report.
    pub(crate) has_followers: bool,
}

impl Window {
    /// Adds a slot for each partition of a topic and returns the first one's number.
    pub(crate) fn add_topic(&mut self, topic: &RouteName, partitions: u32) -> u32 {
        let first = u32::try_from(self.slots.len()).unwrap_or(u32::MAX);
        self.slots.extend((0..partitions).map(|partition| SlotLoad {
            topic: topic.clone(),
            partition: i32::try_from(partition).unwrap_or(i32::MAX),
            in_flight: 0,
            reported: 0,
        }));
        first
    }

    /// Takes a message in, and returns the key that its report comes with.
    pub(crate) fn insert(&mut self, ticket: Ticket, slot: u32) -> usize {
        if let Some(load) = self.slots.get_mut(slot as usize) {
            load.in_flight += 1;
        }
        self.messages.insert(InFlight { ticket, slot })
    }

    /// Takes a message out that librdkafka did not take.
    pub(crate) fn withdraw(&mut self, key: usize) {
        if let Some(message) = self.messages.try_remove(key)
            && let Some(load) = self.slots.get_mut(message.slot as usize)
        {
            load.in_flight -= 1;
        }
    }

    /// Takes a message out whose report arrived; `None` when there is no such message.
    pub(crate) fn report(&mut self, key: usize) -> Option<Reported> {
        let message = self.messages.try_remove(key)?;
        let has_followers = self.slots.get_mut(message.slot as usize).is_some_and(|load| {
            load.in_flight -= 1;
            load.reported += 1;
            load.in_flight > 0
        });
        Some(Reported { ticket: message.ticket, has_followers })
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }

    pub(crate) fn slots(&self) -> &[SlotLoad] {
        &self.slots
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_says_whether_messages_of_its_slot_follow() {
        let mut window = Window::default();
        assert_eq!(window.add_topic(&"order".into(), 2), 0);
        assert_eq!(window.add_topic(&"invoice".into(), 1), 2);
        let (first, second, other) =
            (window.insert(Ticket(1), 0), window.insert(Ticket(2), 0), window.insert(Ticket(3), 2));
        assert_eq!(window.report(first), Some(Reported { ticket: Ticket(1), has_followers: true }));
        assert_eq!(window.report(second), Some(Reported { ticket: Ticket(2), has_followers: false }));
        assert_eq!(window.report(second), None, "one report for each message");
        window.withdraw(other);
        assert!(window.is_empty());
        assert_eq!(window.slots().iter().map(|slot| slot.in_flight).sum::<u32>(), 0);
    }
}
