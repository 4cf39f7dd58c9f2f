//! How many rows to ask for, so that payloads neither flood memory nor come with a statement of their own each time.

use outbox_core::ports::ReadLimits;

/// How far the payloads of one reply may exceed the byte limit, when rows are larger than they were in the last reads.
const SLACK: usize = 2;

/// Adapts to the size of payloads.
#[derive(Debug)]
pub(crate) struct Appetite {
    rows: usize,
}

impl Default for Appetite {
    fn default() -> Self {
        Self { rows: usize::MAX }
    }
}

impl Appetite {
    /// Rows to ask for.
    pub(crate) fn rows(&self, limits: &ReadLimits) -> usize {
        self.rows.min(limits.rows).max(1)
    }

    /// The largest payload that comes with its row: all of them together stay within twice the byte limit.
    pub(crate) fn inline_bytes(rows: usize, limits: &ReadLimits) -> usize {
        (limits.bytes.saturating_mul(SLACK) / rows.max(1)).min(limits.max_message_bytes)
    }

    /// Takes what a read of `asked` rows brought.
    pub(crate) fn learn(&mut self, taken: usize, bytes_ran_out: bool) {
        self.rows = if bytes_ran_out { taken + taken / 4 + 1 } else { self.rows.saturating_mul(2) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: ReadLimits = ReadLimits { rows: 2000, bytes: 8 << 20, max_message_bytes: 16 << 20 };

    #[test]
    fn payloads_of_10_kib_soon_come_with_their_rows() {
        let mut appetite = Appetite::default();
        assert!(Appetite::inline_bytes(appetite.rows(&LIMITS), &LIMITS) < 10 << 10);
        appetite.learn((8 << 20) / (10 << 10), true);
        let rows = appetite.rows(&LIMITS);
        assert!(Appetite::inline_bytes(rows, &LIMITS) >= 10 << 10, "{rows}");
        for _ in 0..2 {
            appetite.learn(10, false);
        }
        assert_eq!(appetite.rows(&LIMITS), 2000);
    }
}
