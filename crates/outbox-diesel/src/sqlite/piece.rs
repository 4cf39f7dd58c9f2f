use std::time::Duration;

use diesel::sql_types::BigInt;
use outbox_core::ports::{Batch, ReadLimits};

use super::rows::{Found, Row};
use crate::sql::{Bind, bind};

/// What one read collects within its limits.
pub(super) struct Piece {
    limits: ReadLimits,
    rows: usize,
    bytes: usize,
    batch: Batch,
}

impl Piece {
    pub(super) fn new(limits: ReadLimits) -> Self {
        Self { limits, rows: 0, bytes: 0, batch: Batch::default() }
    }

    pub(super) fn largest(&self) -> Bind<BigInt, i64> {
        bind(i64::try_from(self.limits.max_message_bytes).unwrap_or(i64::MAX))
    }

    /// One row more than fits tells whether there is more.
    pub(super) fn one_more_than_fits(&self) -> Bind<BigInt, i64> {
        bind(i64::try_from(self.limits.rows - self.rows.min(self.limits.rows)).unwrap_or(i64::MAX).saturating_add(1))
    }

    /// Whether no row fits any more, with `coming` ones that are already on their way.
    pub(super) fn is_full(&self, coming: usize) -> bool {
        self.rows + coming >= self.limits.rows
    }

    /// Takes a row, or says that it does not fit any more.
    pub(super) fn take(&mut self, row: Row) -> bool {
        let bytes = row.loaded_bytes();
        let too_many = self.rows >= self.limits.rows;
        let too_large = self.bytes + bytes > self.limits.bytes && !self.batch.messages.is_empty();
        if too_many || too_large {
            return false;
        }
        self.rows += 1;
        match row.classify(&self.limits) {
            Found::Message(message) => {
                self.bytes += bytes;
                self.batch.messages.push(*message);
            }
            Found::Held(head) => self.batch.held.push(head),
            Found::Refused(refused) => self.batch.refused.push(refused),
            Found::Waits => {}
        }
        true
    }

    pub(super) fn into_batch(mut self, more: bool, next_due_in: Option<Duration>) -> Batch {
        self.batch.messages.sort_by_key(|message| message.seq);
        Batch { more, next_due_in, ..self.batch }
    }
}
