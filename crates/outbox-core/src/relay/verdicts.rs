//! Failures that are written down: the next attempt, or the dead letters.

use super::defect::has_defect;
use super::engine::Engine;
use super::failing::{Task, Write};
use super::lanes::{Entry, Wait};
use super::{DeadLetterPolicy, stats};
use crate::message::{LaneKey, Message};
use crate::ports::{Burial, DeadReason, FailureMark, Fenced, Lease, Reason, StorageError};

/// Characters of an error that are kept in the database.
const ERROR_CHARS: usize = 2_000;

impl Engine {
    /// An attempt failed in a way that may pass.
    pub(super) fn fail_attempt(&mut self, entry: &Entry, reason: &Reason) {
        let message = &entry.message;
        self.open_bytes = self.open_bytes.saturating_sub(message.size_bytes());
        let attempts = message.attempts.saturating_add(1);
        if attempts >= self.config.max_attempts {
            let policy = self.config.policy(&self.routes.get(entry.route).name);
            return self.bury(message, entry.lane, attempts, DeadReason::AttemptsExhausted, reason, policy);
        }
        let Some(lease) = self.ownership.lease(message.shard) else {
            return self.known.remove(message.shard, message.seq);
        };
        let delay = self.config.retry.delay(attempts, &mut self.rng);
        let mark = FailureMark { position: message.position(), attempts, delay, error: shortened(reason) };
        self.write_failure(entry.lane, lease, Write::Retry(mark));
    }

    /// A message becomes a dead letter after so many attempts. It must be known, and no longer count in the open bytes.
    pub(super) fn bury(
        &mut self,
        message: &Message,
        lane: Option<LaneKey>,
        attempts: u32,
        reason: DeadReason,
        error: &Reason,
        policy: DeadLetterPolicy,
    ) {
        let Some(lease) = self.ownership.lease(message.shard) else {
            return self.known.remove(message.shard, message.seq);
        };
        let burial = Burial {
            position: message.position(),
            attempts,
            reason,
            error: shortened(error),
            outcome_unknown: self.ambiguous.contains(&(message.shard, message.seq)),
            park_key: lane.is_some() && policy == DeadLetterPolicy::ParkKey,
        };
        tracing::warn!(id = %message.id, seq = message.seq, reason = reason.as_str(), error = %error, "dead letter");
        self.write_failure(lane, lease, Write::Bury(burial));
    }

    /// Blocks the key and writes the failure down. Followers go on only when the database has it.
    pub(super) fn write_failure(&mut self, lane: Option<LaneKey>, lease: Lease, write: Write) {
        let task = Task { lane, lease, write, loads: self.ownership.loads() };
        let position = task.position();
        let early = matches!(&task.write, Write::Bury(_)) && has_defect!(self.config, ReleaseBeforeBuried);
        self.failing.push(task);
        if let Some(lane) = lane {
            let wait = if early { Wait::Release } else { Wait::Commit };
            self.block(lane, wait, position.shard, position.seq, Some(position.seq));
        }
    }

    pub(super) fn on_failure_written(&mut self, task: Task, result: Result<Fenced, StorageError>) {
        let position = task.position();
        let still_ours = self.ownership.lease(position.shard).is_some_and(|lease| lease.epoch == task.lease.epoch);
        match result {
            Ok(Fenced::Done) => {
                self.failing.succeeded();
                self.database_is_well();
                // of a shard that was left meanwhile nothing is held; it may have been taken over again since
                if still_ours {
                    self.known.retire(position.shard, position.seq, self.intake.reading);
                    self.failure_stands(&task);
                }
            }
            Ok(Fenced::Lost) => {
                if still_ours {
                    self.known.remove(position.shard, position.seq);
                    self.lose_shard(position.shard);
                }
            }
            Err(error) => {
                self.database_failed("writing a failure down failed", &error);
                if still_ours {
                    let (config, rng) = (&self.config, &mut self.rng);
                    self.failing.failed(task, |failures| config.reconnect.delay(failures, rng));
                }
            }
        }
    }

    fn failure_stands(&mut self, task: &Task) {
        let position = task.position();
        let place = (position.shard, position.seq);
        let next = match &task.write {
            Write::Retry(_) => {
                stats::add(&self.shared.counters.retried, 1);
                Wait::Retry
            }
            Write::Bury(burial) => {
                stats::add(&self.shared.counters.dead, 1);
                self.quarantine.remove(&place);
                self.ambiguous.remove(&place);
                if let (true, Some(lane)) = (burial.park_key, task.lane) {
                    let loads = self.ownership.loads();
                    self.parked.insert(lane, (position.shard, loads));
                    if task.loads != loads {
                        // an operator may have let the key go between the move and its late reply
                        self.ownership.reload(position.shard);
                    }
                }
                Wait::Release
            }
        };
        let Some(lane) = task.lane else { return };
        if let Some(block) = self.lanes.block_of(lane)
            && block.wait == Wait::Commit
            && block.head == Some(position.seq)
        {
            block.wait = next;
            self.release_if_free(lane);
        }
    }
}

/// What of a reason is kept; without NUL, which a text column may refuse and the write would be tried for ever.
fn shortened(reason: &Reason) -> String {
    reason.0.chars().filter(|&letter| letter != '\0').take(ERROR_CHARS).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_is_kept_without_nul_and_within_its_limit() {
        assert_eq!(shortened(&Reason::new("a\0b")), "ab");
        assert_eq!(shortened(&Reason::new("é".repeat(3_000))).chars().count(), ERROR_CHARS);
    }
}
