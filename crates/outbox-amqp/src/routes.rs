use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use outbox_core::ports::{RouteName, Slot};
use rustc_hash::FxBuildHasher;

use crate::destination::Address;

/// The routes that a session has opened. Each is one slot: the relay's unit of in-flight limits.
#[derive(Debug, Default)]
pub(crate) struct Routes {
    table: RwLock<Table>,
}

#[derive(Debug, Default)]
struct Table {
    slots: HashMap<RouteName, Slot, FxBuildHasher>,
    addresses: Vec<Arc<Address>>,
}

impl Routes {
    /// The slot of a route that is not open.
    pub(crate) const NOWHERE: Slot = Slot(u32::MAX);

    pub(crate) fn open(&self, route: &RouteName, address: Address) {
        let mut table = self.table.write().unwrap_or_else(PoisonError::into_inner);
        if !table.slots.contains_key(route) {
            let slot = Slot(u32::try_from(table.addresses.len()).unwrap_or(u32::MAX));
            table.slots.insert(route.clone(), slot);
            table.addresses.push(Arc::new(address));
        }
    }

    /// The slot of a route; [`NOWHERE`](Self::NOWHERE) when the route is not open.
    pub(crate) fn slot(&self, route: &RouteName) -> Slot {
        let table = self.table.read().unwrap_or_else(PoisonError::into_inner);
        table.slots.get(route).copied().unwrap_or(Self::NOWHERE)
    }

    /// Where a slot leads; `None` when no open route has it.
    pub(crate) fn address(&self, slot: Slot) -> Option<Arc<Address>> {
        let table = self.table.read().unwrap_or_else(PoisonError::into_inner);
        table.addresses.get(slot.0 as usize).cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_route_keeps_its_slot_and_two_routes_never_share_one() {
        let routes = Routes::default();
        let names: Vec<RouteName> = ["shop/a", "shop/b"].map(RouteName::from).to_vec();
        for name in names.iter().chain(&names) {
            routes.open(name, Address::of(name).unwrap());
        }
        assert_eq!(names.iter().map(|name| routes.slot(name)).collect::<Vec<_>>(), [Slot(0), Slot(1)]);
        assert_eq!(routes.address(Slot(1)).unwrap().routing_key.as_str(), "b");
        assert_eq!(routes.address(routes.slot(&"shop/c".into())), None);
    }
}
