//! What a subscription and the thread that serves it share.

use std::collections::{HashMap, VecDeque};
use std::mem;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use outbox_core::inbox::{Assigned, Incoming, Partition, SourceError, SourceEvent};
use tokio::sync::{Notify, oneshot};

/// Messages that wait to be taken, before the thread stops polling.
pub(super) const MAX_WAITING: usize = 500;

/// Bytes of messages that wait to be taken, before the thread stops polling.
const MAX_WAITING_BYTES: usize = 8 * 1024 * 1024;

#[derive(Default)]
pub(super) struct Mailbox {
    state: Mutex<State>,
    /// Something was told.
    told: Notify,
    /// Something was taken or noted.
    taken: Condvar,
}

#[derive(Default)]
pub(super) struct State {
    events: VecDeque<SourceEvent>,
    waiting: usize,
    waiting_bytes: usize,
    owned: HashMap<Partition, Owned>,
    /// Partitions to pause (`true`) and to resume.
    regulated: Vec<(Partition, bool)>,
    handing_over: HandingOver,
    leaving: Option<Leaving>,
    fault: Option<SourceError>,
    is_over: bool,
}

/// How far the subscription is with one assigned partition, in offsets: what is acknowledged is below.
struct Owned {
    acknowledged: i64,
    committed: i64,
    /// Acknowledgements no longer count: it is on its way to another member.
    is_given_up: bool,
}

/// How far it is with partitions that are to be revoked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum HandingOver {
    #[default]
    Nothing,
    /// The event waits in the mailbox.
    Announced,
    /// The inbox has it, and works on its end.
    Told,
    /// The inbox has asked for the next event.
    Released,
}

/// How a subscription ends.
pub(super) enum Leaving {
    Dropped,
    Closing(oneshot::Sender<Result<(), SourceError>>),
}

impl Mailbox {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The subscription's side.
impl Mailbox {
    /// Waits for an event. Safe to cancel: it is taken when it is returned.
    pub(super) async fn next(&self) -> Result<SourceEvent, SourceError> {
        {
            let mut state = self.state();
            if state.handing_over == HandingOver::Told {
                state.handing_over = HandingOver::Released;
                self.taken.notify_one();
            }
        }
        loop {
            if let Some(event) = self.take() {
                return event;
            }
            self.told.notified().await;
        }
    }

    fn take(&self) -> Option<Result<SourceEvent, SourceError>> {
        let mut state = self.state();
        let Some(event) = state.events.pop_front() else {
            return state.is_over.then(|| Err(state.fault.take().unwrap_or_else(over)));
        };
        match &event {
            SourceEvent::Revoking(_) => state.handing_over = HandingOver::Told,
            SourceEvent::Delivered(messages) => {
                state.waiting -= messages.len();
                state.waiting_bytes -= bytes_of(messages);
                self.taken.notify_one();
            }
            _ => {}
        }
        Some(Ok(event))
    }

    pub(super) fn acknowledge(&self, partition: &Partition, position: i64) {
        if let Some(owned) = self.state().owned.get_mut(partition).filter(|owned| !owned.is_given_up) {
            // never backwards: the start of an assignment is what others have acknowledged before
            owned.acknowledged = owned.acknowledged.max(position.saturating_add(1));
        }
    }

    pub(super) fn regulate(&self, partition: &Partition, pause: bool) {
        let mut state = self.state();
        if state.owned.contains_key(partition) {
            state.regulated.push((partition.clone(), pause));
        }
    }

    /// `Err`: there is nobody any more who could leave.
    pub(super) fn leave(&self, leaving: Leaving) -> Result<(), SourceError> {
        let mut state = self.state();
        if state.is_over {
            return Err(state.fault.take().unwrap_or_else(over));
        }
        state.leaving.get_or_insert(leaving);
        self.taken.notify_one();
        Ok(())
    }
}

/// The thread's side.
impl Mailbox {
    pub(super) fn take_leaving(&self) -> Option<Leaving> {
        self.state().leaving.take()
    }

    pub(super) fn take_regulated(&self) -> Vec<(Partition, bool)> {
        mem::take(&mut self.state().regulated)
    }

    /// Waits until there is room for messages, the inbox wants something else, or the time is over. `true`: there is room.
    pub(super) fn wait_for_room(&self, time: Duration) -> bool {
        let state = self.state();
        if !state.is_full() {
            return true;
        }
        let waited = self.taken.wait_timeout(state, time).unwrap_or_else(PoisonError::into_inner);
        !waited.0.is_full()
    }

    pub(super) fn assign(&self, assigned: Vec<Assigned>) {
        let mut state = self.state();
        for Assigned { partition, start } in &assigned {
            let start = start.unwrap_or(0);
            let owned = Owned { acknowledged: start, committed: start, is_given_up: false };
            state.owned.insert(partition.clone(), owned);
        }
        self.tell(&mut state, SourceEvent::Assigned(assigned));
    }

    pub(super) fn deliver(&self, messages: Vec<Incoming>) {
        if messages.is_empty() {
            return;
        }
        let mut state = self.state();
        state.waiting += messages.len();
        state.waiting_bytes += bytes_of(&messages);
        if let Some(SourceEvent::Delivered(last)) = state.events.back_mut() {
            last.extend(messages);
            self.told.notify_one();
        } else {
            self.tell(&mut state, SourceEvent::Delivered(messages));
        }
    }

    /// Asks for partitions back.
    pub(super) fn announce(&self, partitions: &[Partition]) {
        let mut state = self.state();
        state.forget_messages(partitions);
        state.handing_over = HandingOver::Announced;
        self.tell(&mut state, SourceEvent::Revoking(partitions.to_vec()));
    }

    /// Whether the inbox has let go of the partitions that were asked back.
    pub(super) fn is_released(&self) -> bool {
        self.state().handing_over == HandingOver::Released
    }

    /// Takes no more acknowledgements of partitions that were asked back.
    pub(super) fn give_up(&self, partitions: &[Partition]) {
        let mut state = self.state();
        for partition in partitions {
            if let Some(owned) = state.owned.get_mut(partition) {
                owned.is_given_up = true;
            }
        }
    }

    /// Ends a hand-over. An announcement that nobody has taken becomes a loss.
    pub(super) fn handed_over(&self, partitions: &[Partition]) {
        let mut state = self.state();
        state.owned.retain(|partition, _| !partitions.contains(partition));
        if mem::take(&mut state.handing_over) == HandingOver::Announced {
            for event in &mut state.events {
                if let SourceEvent::Revoking(partitions) = event {
                    *event = SourceEvent::Lost(mem::take(partitions));
                }
            }
        }
    }

    pub(super) fn lose(&self, partitions: &[Partition]) {
        let mut state = self.state();
        state.owned.retain(|partition, _| !partitions.contains(partition));
        state.forget_messages(partitions);
        self.tell(&mut state, SourceEvent::Lost(partitions.to_vec()));
    }

    /// What is acknowledged and not committed: the offsets that come next.
    pub(super) fn uncommitted(&self) -> Vec<(Partition, i64)> {
        let state = self.state();
        let behind = state.owned.iter().filter(|(_, owned)| owned.acknowledged > owned.committed);
        behind.map(|(partition, owned)| (partition.clone(), owned.acknowledged)).collect()
    }

    /// The broker holds these offsets.
    pub(super) fn committed(&self, offsets: Vec<(Partition, i64)>) {
        if offsets.is_empty() {
            return;
        }
        let mut state = self.state();
        for (partition, offset) in &offsets {
            if let Some(owned) = state.owned.get_mut(partition) {
                owned.committed = owned.committed.max(*offset);
            }
        }
        let positions = offsets.into_iter().map(|(partition, offset)| (partition, offset - 1)).collect();
        self.tell(&mut state, SourceEvent::Acknowledged(positions));
    }

    /// The subscription is over. What waits is told no more.
    pub(super) fn end(&self, fault: Option<SourceError>) -> Option<Leaving> {
        let mut state = self.state();
        let leaving = state.leaving.take();
        *state = State { fault, is_over: true, ..State::default() };
        self.told.notify_one();
        leaving
    }

    fn tell(&self, state: &mut State, event: SourceEvent) {
        state.events.push_back(event);
        self.told.notify_one();
    }
}

impl State {
    fn is_full(&self) -> bool {
        self.waiting >= MAX_WAITING || self.waiting_bytes >= MAX_WAITING_BYTES
    }

    fn forget_messages(&mut self, partitions: &[Partition]) {
        for event in &mut self.events {
            if let SourceEvent::Delivered(messages) = event {
                messages.retain(|message| !partitions.contains(&message.partition));
            }
        }
        self.events.retain(|event| !matches!(event, SourceEvent::Delivered(messages) if messages.is_empty()));
        let messages = self.events.iter().filter_map(|event| match event {
            SourceEvent::Delivered(messages) => Some(messages),
            _ => None,
        });
        (self.waiting, self.waiting_bytes) =
            messages.fold((0, 0), |(count, bytes), it| (count + it.len(), bytes + bytes_of(it)));
    }
}

fn bytes_of(messages: &[Incoming]) -> usize {
    messages.iter().map(Incoming::size_bytes).sum()
}

fn over() -> SourceError {
    let message = "the kafka subscription is over: subscribe again";
    SourceError::new(outbox_core::inbox::SourceErrorKind::Unavailable, message)
}

#[cfg(test)]
mod tests;
