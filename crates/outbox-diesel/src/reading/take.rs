//! Which of the rows found are taken, within the limits.

use outbox_core::Message;
use outbox_core::ports::{Batch, DeadReason, HeldHead, Position, ReadLimits, Refused};

use super::found::Found;

/// Fills a batch.
pub(crate) struct Take<'l> {
    limits: &'l ReadLimits,
    clock: i64,
    pub(crate) batch: Batch,
    /// Messages of `batch` whose payload is still to be loaded: index and position.
    pub(crate) unloaded: Vec<(usize, Position)>,
    bytes: usize,
    /// Whether the byte limit cut the read.
    pub(crate) bytes_ran_out: bool,
}

/// What became of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Taken {
    /// It is in the batch, or needs nothing.
    Yes,
    /// It waits until this time.
    Waits(i64),
    /// It did not fit: it and everything after it stay for the next read.
    No,
}

impl<'l> Take<'l> {
    pub(crate) fn new(limits: &'l ReadLimits, clock: i64) -> Self {
        Self { limits, clock, batch: Batch::default(), unloaded: Vec::new(), bytes: 0, bytes_ran_out: false }
    }

    pub(crate) fn row(&mut self, found: Found) -> Taken {
        let position = found.position();
        if let Some(wake_at) = found.wake_at.filter(|&wake_at| wake_at > self.clock) {
            let failed = found.message.as_ref().is_ok_and(|message| message.attempts > 0);
            if let (true, Some(lane)) = (failed, found.lane()) {
                self.batch.held.push(HeldHead { position, lane });
            }
            return Taken::Waits(wake_at);
        }
        let lane = found.lane();
        let reason = match &found.message {
            Err(_) => Some(DeadReason::Undecodable),
            Ok(_) if found.payload_bytes > self.limits.max_message_bytes => Some(DeadReason::TooLarge),
            Ok(_) => None,
        };
        match (reason, found.message) {
            (None, Ok(message)) => self.message(message, found.payload_bytes, found.loaded),
            (reason, _) => {
                let reason = reason.unwrap_or(DeadReason::Undecodable);
                self.batch.refused.push(Refused { position, lane, reason });
                Taken::Yes
            }
        }
    }

    fn message(&mut self, message: Message, bytes: usize, loaded: bool) -> Taken {
        let first = self.batch.messages.is_empty();
        if !first && self.batch.messages.len() >= self.limits.rows {
            return Taken::No;
        }
        if !first && self.bytes + bytes > self.limits.bytes {
            self.bytes_ran_out = true;
            return Taken::No;
        }
        self.bytes += bytes;
        if !loaded {
            self.unloaded.push((self.batch.messages.len(), message.position()));
        }
        self.batch.messages.push(message);
        Taken::Yes
    }
}

#[cfg(test)]
mod tests {
    use outbox_core::ports::ShardId;
    use outbox_core::{Headers, message::Payload};
    use uuid::Uuid;

    use super::*;

    fn found(seq: i64, payload_bytes: usize, wake_at: Option<i64>, attempts: u32) -> Found {
        let message = Message {
            id: Uuid::from_u128(1),
            shard: ShardId(0),
            seq,
            aggregate_type: "order".into(),
            aggregate_id: Some("1".into()),
            event_type: "placed".into(),
            payload: Payload::default(),
            content_type: "application/json".into(),
            headers: Headers::default(),
            occurred_at: time::OffsetDateTime::UNIX_EPOCH,
            attempts,
        };
        Found { kind: 0, payload_bytes, loaded: false, wake_at, message: Ok(message) }
    }

    const LIMITS: ReadLimits = ReadLimits { rows: 3, bytes: 100, max_message_bytes: 1000 };

    #[test]
    fn the_first_message_fits_whatever_its_size_and_the_second_does_not() {
        let mut take = Take::new(&LIMITS, 0);
        assert_eq!(take.row(found(1, 500, None, 0)), Taken::Yes);
        assert_eq!(take.row(found(2, 1, None, 0)), Taken::No);
        assert!(take.bytes_ran_out);
        assert_eq!(take.unloaded.len(), 1);
    }

    #[test]
    fn a_row_over_the_message_limit_is_refused_and_takes_no_room() {
        let mut take = Take::new(&LIMITS, 0);
        assert_eq!(take.row(found(1, 1001, None, 0)), Taken::Yes);
        assert_eq!(take.batch.refused[0].reason, DeadReason::TooLarge);
        assert!(take.batch.messages.is_empty() && take.unloaded.is_empty());
    }

    #[test]
    fn a_waiting_row_is_no_message_and_holds_its_key_only_after_a_failure() {
        let mut take = Take::new(&LIMITS, 10);
        assert_eq!(take.row(found(1, 1, Some(11), 0)), Taken::Waits(11));
        assert!(take.batch.held.is_empty());
        assert_eq!(take.row(found(2, 1, Some(11), 1)), Taken::Waits(11));
        assert_eq!(take.batch.held.len(), 1);
        assert_eq!(take.row(found(3, 1, Some(10), 1)), Taken::Yes);
    }
}
