use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{PoisonError, RwLock};

use outbox_core::Message;
use outbox_core::ports::{Outcome, Reason, RouteName, Slot};
use rustc_hash::FxBuildHasher;

use crate::murmur2::partition_of_key;
use crate::window::Window;

/// Messages without a key that go to one partition before the next one has its turn: they share a batch.
const KEYLESS_RUN: u32 = 64;

/// The routes that a session has opened, and where its slots lead.
#[derive(Debug, Default)]
pub(crate) struct Routes {
    table: RwLock<Table>,
}

#[derive(Debug, Default)]
struct Table {
    routes: HashMap<RouteName, OpenRoute, FxBuildHasher>,
    slots: Vec<Destination>,
}

#[derive(Debug)]
struct OpenRoute {
    first_slot: u32,
    partitions: u32,
    keyless: AtomicU32,
}

/// Where a slot leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Destination {
    pub(crate) partition: i32,
    /// `max.message.bytes` of the topic, when it is known and the size of a batch can be foreseen.
    pub(crate) max_batch_bytes: Option<usize>,
}

impl Routes {
    /// Notes what a topic says of itself, with slots for a topic that is new.
    ///
    /// # Errors
    ///
    /// [`Outcome::SessionLost`] when the number of partitions is not what it was, so that keys would change their slot.
    pub(crate) fn open(
        &self,
        window: &mut Window,
        route: &RouteName,
        partitions: u32,
        max_batch_bytes: Option<usize>,
    ) -> Result<(), Outcome> {
        let mut table = self.table.write().unwrap_or_else(PoisonError::into_inner);
        let Table { routes, slots } = &mut *table;
        let destinations = (0..partitions)
            .map(|partition| Destination { partition: i32::try_from(partition).unwrap_or(i32::MAX), max_batch_bytes });
        let Some(open) = routes.get(route) else {
            let first_slot = window.add_topic(route, partitions);
            slots.extend(destinations);
            routes.insert(route.clone(), OpenRoute { first_slot, partitions, keyless: AtomicU32::new(0) });
            return Ok(());
        };
        if open.partitions != partitions {
            let text = format!(
                "topic {route} has {partitions} partitions and had {}: a new session uses them",
                open.partitions
            );
            return Err(Outcome::SessionLost(Reason::new(text)));
        }
        for (slot, destination) in slots.iter_mut().skip(open.first_slot as usize).zip(destinations) {
            *slot = destination;
        }
        Ok(())
    }

    /// The slot of a message; one that leads nowhere when the route is not open.
    pub(crate) fn slot(&self, route: &RouteName, message: &Message) -> Slot {
        let table = self.table.read().unwrap_or_else(PoisonError::into_inner);
        let Some(open) = table.routes.get(route) else { return Slot(u32::MAX) };
        let partition = match &message.aggregate_id {
            Some(key) => partition_of_key(key.as_bytes(), open.partitions),
            None => (open.keyless.fetch_add(1, Ordering::Relaxed) / KEYLESS_RUN) % open.partitions,
        };
        Slot(open.first_slot + partition)
    }

    /// Where a slot leads; `None` when no open route has it.
    pub(crate) fn destination(&self, slot: Slot) -> Option<Destination> {
        let table = self.table.read().unwrap_or_else(PoisonError::into_inner);
        table.slots.get(slot.0 as usize).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::message;

    #[test]
    fn slots_are_numbered_across_routes_and_a_key_keeps_its_own() {
        let (routes, mut window) = (Routes::default(), Window::default());
        let (order, invoice) = (RouteName::from("order"), RouteName::from("invoice"));
        routes.open(&mut window, &order, 3, None).unwrap();
        routes.open(&mut window, &invoice, 2, Some(1000)).unwrap();
        let slot = routes.slot(&invoice, &message("invoice", Some("7")));
        assert!((3..5).contains(&slot.0), "{slot:?}");
        assert_eq!(slot, routes.slot(&invoice, &message("invoice", Some("7"))));
        let destination = routes.destination(slot).unwrap();
        assert_eq!(destination.partition, i32::try_from(slot.0).unwrap() - 3);
        assert_eq!(destination.max_batch_bytes, Some(1000));
        assert_eq!(window.slots().len(), 5);
    }

    #[test]
    fn messages_without_a_key_visit_every_partition() {
        let (routes, mut window) = (Routes::default(), Window::default());
        let order = RouteName::from("order");
        routes.open(&mut window, &order, 3, None).unwrap();
        let mut counts = [0u32; 3];
        for _ in 0..3 * KEYLESS_RUN {
            counts[routes.slot(&order, &message("order", None)).0 as usize] += 1;
        }
        assert_eq!(counts, [KEYLESS_RUN; 3]);
    }

    #[test]
    fn a_topic_whose_partitions_changed_needs_a_new_session() {
        let (routes, mut window) = (Routes::default(), Window::default());
        let order = RouteName::from("order");
        routes.open(&mut window, &order, 3, None).unwrap();
        assert_eq!(routes.open(&mut window, &order, 3, Some(5)), Ok(()));
        assert_eq!(routes.destination(Slot(2)).unwrap().max_batch_bytes, Some(5));
        assert!(matches!(routes.open(&mut window, &order, 4, None), Err(Outcome::SessionLost(_))));
        assert_eq!(routes.destination(Slot(3)), None);
    }

    #[test]
    fn a_route_that_is_not_open_leads_nowhere() {
        let routes = Routes::default();
        assert_eq!(routes.destination(routes.slot(&"order".into(), &message("order", None))), None);
    }
}
