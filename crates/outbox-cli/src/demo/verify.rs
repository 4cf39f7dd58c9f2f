//! Compares what the broker has with the database's own record.

use std::collections::{HashMap, HashSet};

use uuid::Uuid;

/// A committed event by the database's own record, which the writers' transactions keep beside the outbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Recorded {
    /// The message's identity.
    pub(super) id: Uuid,
    /// The ordering key.
    pub(super) order_id: i64,
    /// Counts the committed changes of the order from 1.
    pub(super) version: i64,
    /// What was charged.
    pub(super) cents: i64,
}

/// What was found. Everything but duplicates must be 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Verdict {
    /// Committed events that never arrived.
    pub(super) lost: u64,
    /// Arrived events that the database does not have: their transaction was rolled back.
    pub(super) ghosts: u64,
    /// First deliveries that came after a later event of their key.
    pub(super) out_of_order: u64,
    /// Arrived events whose content is not what was committed under their id.
    pub(super) altered: u64,
    /// Deliveries of an event that had arrived before. Allowed after a fault; counted.
    pub(super) duplicates: u64,
}

impl Verdict {
    /// Whether the promise was kept.
    pub(super) fn holds(&self) -> bool {
        self.lost + self.ghosts + self.out_of_order + self.altered == 0
    }
}

/// Judges the deliveries, given in the order in which the broker has them for each key.
pub(super) fn verify<'a>(recorded: &[Recorded], delivered: impl IntoIterator<Item = &'a Recorded>) -> Verdict {
    let record: HashMap<Uuid, &Recorded> = recorded.iter().map(|event| (event.id, event)).collect();
    let mut verdict = Verdict::default();
    let mut seen = HashSet::with_capacity(recorded.len());
    let mut latest: HashMap<i64, i64> = HashMap::new();
    for event in delivered {
        if !seen.insert(event.id) {
            verdict.duplicates += 1;
            continue;
        }
        match record.get(&event.id) {
            None => verdict.ghosts += 1,
            Some(committed) if *committed != event => verdict.altered += 1,
            Some(_) => {
                let latest = latest.entry(event.order_id).or_default();
                if event.version < *latest {
                    verdict.out_of_order += 1;
                }
                *latest = event.version.max(*latest);
            }
        }
    }
    verdict.lost = record.keys().filter(|id| !seen.contains(*id)).count() as u64;
    verdict
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(id: u128, order_id: i64, version: i64) -> Recorded {
        Recorded { id: Uuid::from_u128(id), order_id, version, cents: 100 }
    }

    #[test]
    fn everything_once_and_in_order_holds() {
        let events = [event(1, 1, 1), event(2, 2, 1), event(3, 1, 2)];
        assert_eq!(verify(&events, &events), Verdict::default());
        assert!(verify(&events, &[events[1].clone(), events[0].clone(), events[2].clone()]).holds());
    }

    #[test]
    fn a_missing_event_is_lost() {
        let events = [event(1, 1, 1), event(2, 1, 2)];
        let verdict = verify(&events, &events[1..]);
        assert_eq!((verdict.lost, verdict.holds()), (1, false));
    }

    #[test]
    fn an_event_that_was_never_committed_is_a_ghost() {
        let verdict = verify(&[event(1, 1, 1)], &[event(1, 1, 1), event(9, 1, 2)]);
        assert_eq!((verdict.ghosts, verdict.holds()), (1, false));
    }

    #[test]
    fn a_first_delivery_after_a_later_one_of_its_key_is_out_of_order() {
        let events = [event(1, 1, 1), event(2, 1, 2), event(3, 2, 1)];
        let verdict = verify(&events, &[events[1].clone(), events[2].clone(), events[0].clone()]);
        assert_eq!((verdict.out_of_order, verdict.holds()), (1, false));
    }

    #[test]
    fn a_second_delivery_is_a_duplicate_and_no_fault_of_order() {
        let events = [event(1, 1, 1), event(2, 1, 2)];
        let verdict = verify(&events, &[events[0].clone(), events[1].clone(), events[0].clone()]);
        assert_eq!((verdict.duplicates, verdict.holds()), (1, true));
    }

    #[test]
    fn other_content_under_a_known_id_is_noticed() {
        for altered in [event(1, 1, 7), Recorded { cents: 1, ..event(1, 1, 1) }] {
            let verdict = verify(&[event(1, 1, 1)], &[altered]);
            assert_eq!((verdict.altered, verdict.holds()), (1, false));
        }
    }
}
