use std::collections::{BTreeMap, BTreeSet};

use outbox_core::inbox::{InboxDeadLetter, InboxStorage as _};
use outbox_inbox::{InboxHandle, InboxStats};

use super::world::World;

/// A broken promise, found by a run.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("seed {seed}: {kind:?}: {what}")]
pub struct Violation {
    /// The seed that replays it.
    pub seed: u64,
    /// Which promise.
    pub kind: ViolationKind,
    /// What happened.
    pub what: String,
}

/// The promises that a run checks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ViolationKind {
    /// A message was neither applied nor is it held or a dead letter.
    Lost,
    /// A message was applied more than once, or applied and is a dead letter.
    Twice,
    /// A message was applied before an earlier one of its key.
    Order,
    /// Messages were taken for missing, stale or repeated by their numbers, and were not.
    FalseAlarm,
    /// Not everything was processed after the faults had ended.
    Stuck,
    /// The inbox ended, panicked or span without making time pass.
    Broken,
}

impl World {
    /// Compares what is in the database with what was published.
    pub(super) fn check(&self) {
        let mut seen = BTreeSet::new();
        let mut last: BTreeMap<String, u64> = BTreeMap::new();
        for effect in self.database.effects() {
            if !seen.insert(effect.clone()) {
                self.violated(ViolationKind::Twice, format!("{effect} was applied twice"));
            }
            let Some((key, number)) = effect.split_once('#') else { continue };
            let number = number.parse().unwrap_or(0);
            let before = last.insert(key.to_owned(), number);
            if before.is_some_and(|before| before > number) {
                self.violated(ViolationKind::Order, format!("{effect} was applied after number {before:?} of its key"));
            }
        }
        let ended: Vec<String> = {
            let state = self.lock();
            state.dead.union(&state.discarded).filter(|id| seen.contains(*id)).cloned().collect()
        };
        for id in ended {
            self.violated(ViolationKind::Twice, format!("{id} was applied and is a dead letter"));
        }
        let all: Vec<InboxStats> = self.lock().handles.iter().map(InboxHandle::stats).collect();
        for stats in all.iter().filter(|s| s.sequence_missing + s.sequence_stale + s.sequence_repeated > 0) {
            self.violated(ViolationKind::FalseAlarm, format!("{stats:?}"));
        }
        let missing = self.missing();
        if let (true, Some(id)) = (self.is_settled(), missing.first()) {
            self.violated(ViolationKind::Lost, format!("{id} and {} others are gone", missing.len() - 1));
        }
    }

    /// Messages that are neither applied nor dead.
    pub(super) fn missing(&self) -> Vec<String> {
        let effects: BTreeSet<String> = self.database.effects().into_iter().collect();
        let state = self.lock();
        let is_gone =
            |id: &&String| !effects.contains(*id) && !state.dead.contains(*id) && !state.discarded.contains(*id);
        let published = state.published.iter().filter(is_gone);
        published.cloned().collect()
    }

    pub(super) async fn look_at_dead_letters(&self) {
        let letters: Vec<InboxDeadLetter> =
            self.database.admin().dead_letters(&self.consumer, 0, 10_000).await.unwrap_or_default();
        let ids = letters.into_iter().filter_map(|letter| Some(letter.identity?.id().to_owned()));
        self.lock().dead = ids.collect();
    }
}
