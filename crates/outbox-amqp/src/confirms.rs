use std::collections::{HashMap, VecDeque};

use rustc_hash::FxBuildHasher;
use uuid::Uuid;

/// The messages of one channel that have no outcome yet, and what is known of each.
///
/// The broker returns an unroutable message *before* it acknowledges it, but lapin hands a returned message out with whichever confirm it completes next,
/// one with each. So a message's own confirm does not tell whether it was returned, and this is how that is found out:
///
/// - A confirm that came with no returned message: none was waiting then, so that the return of this very message, if there is one, came with a confirm that was
///   completed before. All those are known once everything that was ready is looked at: at the next [marker](Self::pass_marker).
/// - A confirm that came with the return of *another* message: its own return, if there is one, still waits in lapin, behind fewer returns than messages
///   were open. Each confirm takes one out, so it has come out when all that were open then are confirmed and looked at.
#[derive(Debug)]
pub(crate) struct Confirms<T> {
    open: HashMap<u64, Open<T>, FxBuildHasher>,
    /// Every open message's number, by its id.
    by_id: HashMap<Uuid, Vec<u64>, FxBuildHasher>,
    next: u64,
    /// From `lowest` on: whose confirm came or failed. All below it have.
    passed: VecDeque<bool>,
    lowest: u64,
    /// Confirmed with no return, not settled at a marker yet.
    clear: Vec<u64>,
    /// Confirmed with the return of another, with the number that `lowest` must reach.
    unclear: VecDeque<(u64, u64)>,
    /// What the marker that is on its way settles.
    marked: Vec<u64>,
    is_marker_out: bool,
    /// A confirm failed: the channel is gone, and no return that still waits in lapin will come out.
    is_broken: bool,
}

#[derive(Debug)]
struct Open<T> {
    item: T,
    id: Uuid,
    ack: Option<bool>,
    is_returned: bool,
}

/// What the broker did with a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Confirmed {
    /// It has it.
    Taken,
    /// It had no queue for it.
    Returned,
    /// At least one queue did not take it.
    Refused,
}

impl<T> Default for Confirms<T> {
    fn default() -> Self {
        Self {
            open: HashMap::default(),
            by_id: HashMap::default(),
            next: 0,
            passed: VecDeque::new(),
            lowest: 0,
            clear: Vec::new(),
            unclear: VecDeque::new(),
            marked: Vec::new(),
            is_marker_out: false,
            is_broken: false,
        }
    }
}

impl<T> Confirms<T> {
    /// Takes a message in and returns its number.
    pub(crate) fn publish(&mut self, id: Uuid, item: T) -> u64 {
        let number = self.next;
        self.next += 1;
        self.open.insert(number, Open { item, id, ack: None, is_returned: false });
        self.by_id.entry(id).or_default().push(number);
        self.passed.push_back(false);
        number
    }

    /// Notes a confirm, and the id of the returned message that came with it.
    pub(crate) fn confirm(&mut self, number: u64, ack: bool, returned: Option<Uuid>) {
        self.passed(number);
        if let Some(returned) = returned {
            // should an id be open twice, both are taken as returned: one too many is sent again, none is lost
            for other in self.by_id.get(&returned).into_iter().flatten() {
                if let Some(open) = self.open.get_mut(other) {
                    open.is_returned = true;
                }
            }
        }
        let next = self.next;
        let Some(open) = self.open.get_mut(&number) else { return };
        open.ack = Some(ack);
        if returned.is_none() || open.is_returned {
            self.clear.push(number);
        } else {
            self.unclear.push_back((number, next));
        }
    }

    /// Notes that no confirm will come: the channel is gone.
    pub(crate) fn fail(&mut self, number: u64) {
        self.is_broken = true;
        self.passed(number);
    }

    fn passed(&mut self, number: u64) {
        let place = usize::try_from(number - self.lowest).unwrap_or(usize::MAX);
        if let Some(passed) = self.passed.get_mut(place) {
            *passed = true;
        }
        while self.passed.front() == Some(&true) {
            self.passed.pop_front();
            self.lowest += 1;
        }
    }

    /// Whether a marker should be sent through everything that is ready to be looked at, to settle what was confirmed before it.
    pub(crate) fn wants_marker(&mut self) -> bool {
        if self.is_marker_out {
            return false;
        }
        while !self.is_broken
            && let Some((number, _)) = self.unclear.front().copied().filter(|(_, needed)| *needed <= self.lowest)
        {
            self.unclear.pop_front();
            self.clear.push(number);
        }
        std::mem::swap(&mut self.marked, &mut self.clear);
        self.is_marker_out = !self.marked.is_empty();
        self.is_marker_out
    }

    /// The marker came back: everything that was ready when it was sent has been looked at. Settles.
    pub(crate) fn pass_marker(&mut self, mut settle: impl FnMut(T, Confirmed)) {
        self.is_marker_out = false;
        for number in self.marked.drain(..) {
            let Some(open) = self.open.remove(&number) else { continue };
            forget_id(&mut self.by_id, open.id, number);
            settle(
                open.item,
                match open.ack {
                    _ if open.is_returned => Confirmed::Returned,
                    Some(true) => Confirmed::Taken,
                    Some(false) | None => Confirmed::Refused,
                },
            );
        }
    }

    /// Whether every message has its outcome.
    pub(crate) fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    /// Whether the channel is gone and everything that can be known of its messages has been settled.
    pub(crate) fn is_over(&self) -> bool {
        self.is_broken && self.lowest == self.next && !self.is_marker_out && self.clear.is_empty()
    }

    /// Takes out everything that has no outcome, in the order of publishing, of a channel that is gone: whether one that was confirmed had been
    /// returned can no longer be known.
    pub(crate) fn abandon(&mut self) -> Vec<T> {
        let mut open: Vec<_> = std::mem::take(self).open.into_iter().collect();
        open.sort_unstable_by_key(|(number, _)| *number);
        open.into_iter().map(|(_, open)| open.item).collect()
    }
}

fn forget_id(by_id: &mut HashMap<Uuid, Vec<u64>, FxBuildHasher>, id: Uuid, number: u64) {
    if let Some(numbers) = by_id.get_mut(&id) {
        numbers.retain(|other| *other != number);
        if numbers.is_empty() {
            by_id.remove(&id);
        }
    }
}

#[cfg(test)]
mod tests;
