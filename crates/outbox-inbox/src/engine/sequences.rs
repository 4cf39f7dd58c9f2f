use std::cmp::Ordering;
use std::hash::{Hash as _, Hasher as _};

use outbox_core::inbox::{Identity, InboxStorage, OrderingKey, Standing};
use outbox_core::message::Sequence;
use rustc_hash::{FxHashMap, FxHasher};

use super::run::Engine;
use super::work::Work;
use crate::Delivery;
use crate::stats::add;

/// The numbers of a key: those of one source in one stream. A digest; two keys that collide make a wrong count, and nothing else.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct SequenceKey(u64);

/// The place that a message says to have among those of its key.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    key: SequenceKey,
    sequence: Sequence,
}

impl Place {
    pub(super) fn of(delivery: &Delivery) -> Option<Self> {
        Some(Self { key: key_of(&delivery.identity, delivery.key.as_ref()?), sequence: delivery.sequence? })
    }
}

fn key_of(identity: &Identity, key: &OrderingKey) -> SequenceKey {
    let mut hasher = FxHasher::default();
    identity.source().hash(&mut hasher);
    key.digest().hash(&mut hasher);
    SequenceKey(hasher.finish())
}

/// What a message's number says about those before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Finding {
    /// So many are missing right before it.
    Missing(u64),
    /// A later one came before it; with numbers without gaps, it is one that was missing.
    Stale { was_missing: bool },
    /// Another message had the same number.
    Repeated,
}

/// The highest number of each key, as far as they are remembered: of the keys that were seen last, `limit` at most.
///
/// What was seen in one assignment of a partition says nothing about the next: others may have had it meanwhile.
#[derive(Debug)]
pub(super) struct Sequences {
    half: usize,
    recent: FxHashMap<SequenceKey, Seen>,
    older: FxHashMap<SequenceKey, Seen>,
}

#[derive(Debug, Clone, Copy)]
struct Seen {
    assignment: u64,
    number: i64,
}

impl Sequences {
    pub(super) fn new(limit: usize) -> Self {
        Self { half: limit.div_ceil(2), recent: FxHashMap::default(), older: FxHashMap::default() }
    }

    /// Notes a message that an assignment delivered, in the order of its key. One that was there before (`is_repeat`) is no news.
    pub(super) fn note(&mut self, assignment: u64, place: Place, is_repeat: bool) -> Option<Finding> {
        let Place { key, sequence: Sequence { number, is_contiguous } } = place;
        let seen = self.recent.get(&key).or_else(|| self.older.get(&key)).copied();
        let Some(before) = seen.filter(|seen| seen.assignment == assignment).map(|seen| seen.number) else {
            // a repeated one may be any of those that were there before, and not the last of them
            if !is_repeat {
                self.remember(key, Seen { assignment, number });
            }
            return None;
        };
        if number > before {
            self.remember(key, Seen { assignment, number });
        }
        let gap = number.abs_diff(before).saturating_sub(1);
        match number.cmp(&before) {
            _ if is_repeat => None,
            Ordering::Less => Some(Finding::Stale { was_missing: is_contiguous }),
            Ordering::Equal => Some(Finding::Repeated),
            Ordering::Greater => (is_contiguous && gap > 0).then_some(Finding::Missing(gap)),
        }
    }

    fn remember(&mut self, key: SequenceKey, seen: Seen) {
        if self.recent.len() >= self.half && !self.recent.contains_key(&key) {
            self.older = std::mem::take(&mut self.recent);
        }
        self.recent.insert(key, seen);
    }
}

impl<S: InboxStorage> Engine<S> {
    /// Notes the number of a message that is committed.
    pub(super) fn note_sequence(&mut self, work: &Work) {
        let (Some(sequences), Some(place)) = (&mut self.sequences, work.place) else { return };
        if self.partitions.current(&work.partition, &work.assignment).is_none() {
            return;
        }
        let counters = &self.context.shared.counters;
        match sequences.note(work.assignment.number, place, work.standing != Some(Standing::New)) {
            None => {}
            Some(Finding::Missing(count)) => {
                let (partition, position) = (&work.partition, work.position);
                tracing::warn!(%partition, position, count, "messages are missing before this one of its key");
                add(&counters.sequence_missing, usize::try_from(count).unwrap_or(usize::MAX));
                self.context.shared.vitals(|vitals| vitals.missing = vitals.missing.saturating_add(count));
            }
            Some(Finding::Stale { was_missing }) => {
                add(&counters.sequence_stale, 1);
                let came = u64::from(was_missing);
                self.context.shared.vitals(|vitals| vitals.missing = vitals.missing.saturating_sub(came));
            }
            Some(Finding::Repeated) => add(&counters.sequence_repeated, 1),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(key: u64, number: i64, is_contiguous: bool) -> Place {
        Place { key: SequenceKey(key), sequence: Sequence { number, is_contiguous } }
    }

    #[test]
    fn gaps_are_found_where_numbers_have_none() {
        let mut sequences = Sequences::new(10);
        let mut note = |number| sequences.note(1, place(7, number, true), false);
        assert_eq!(note(4), None, "what was before the first one is not known");
        assert_eq!(note(5), None);
        assert_eq!(note(8), Some(Finding::Missing(2)));
        assert_eq!(note(7), Some(Finding::Stale { was_missing: true }));
        assert_eq!(note(8), Some(Finding::Repeated));
        assert_eq!(note(9), None);
    }

    #[test]
    fn numbers_with_gaps_tell_stale_ones_only() {
        let mut sequences = Sequences::new(10);
        let mut note = |number| sequences.note(1, place(7, number, false), false);
        assert_eq!((note(4), note(400), note(399)), (None, None, Some(Finding::Stale { was_missing: false })));
    }

    #[test]
    fn a_message_that_was_there_before_is_no_news_but_its_number_counts() {
        let mut sequences = Sequences::new(10);
        assert_eq!(sequences.note(1, place(7, 4, true), false), None);
        assert_eq!(sequences.note(1, place(7, 9, true), true), None);
        assert_eq!(sequences.note(1, place(7, 4, true), true), None);
        assert_eq!(sequences.note(1, place(7, 10, true), false), None);
    }

    #[test]
    fn a_repeated_message_is_no_beginning() {
        let mut sequences = Sequences::new(10);
        assert_eq!(sequences.note(1, place(7, 1, true), true), None);
        assert_eq!(sequences.note(1, place(7, 5, true), false), None);
    }

    #[test]
    fn another_assignment_begins_anew() {
        let mut sequences = Sequences::new(10);
        assert_eq!(sequences.note(1, place(7, 4, true), false), None);
        assert_eq!(sequences.note(2, place(7, 9, true), false), None);
        assert_eq!(sequences.note(2, place(7, 11, true), false), Some(Finding::Missing(1)));
    }

    #[test]
    fn the_keys_that_were_seen_last_are_remembered_and_no_more_than_the_limit() {
        let mut sequences = Sequences::new(100);
        for number in 0..50 {
            for key in 0..10_000 {
                sequences.note(1, place(key, number, true), false);
                sequences.note(1, place(1_000_000, 1 + number * 10_000 + key as i64, true), false);
                assert!(sequences.recent.len() + sequences.older.len() <= 100);
            }
        }
        assert_eq!(sequences.note(1, place(1_000_000, 900_000, true), false), Some(Finding::Missing(399_999)));
    }
}
