//! How far the numbers were drawn.

use std::time::{Duration, Instant};

use crate::Tables;

/// How often the server is asked.
const EVERY: Duration = Duration::from_millis(250);

/// The highest `seq` that the server had drawn some time ago.
///
/// A floor may be moved there when a read found less than it asked for, as to the row of the highest `seq` that it found: every number
/// up to it was drawn before the read. Without this, the floor of a relay whose own shards are quiet would stay behind what the others
/// deliver, and each of its reads would go through all of that. It is what an earlier read was told, and not the newest, because a
/// floor that passes transactions that are just about to commit finds their rows in a second statement.
#[derive(Debug, Default)]
pub(super) struct Drawn {
    highest: Option<i64>,
    told_at: Option<Instant>,
}

impl Drawn {
    pub(super) fn highest(&self) -> Option<i64> {
        self.highest
    }

    /// Whether it is time to ask.
    pub(super) fn is_old(&self) -> bool {
        self.told_at.is_none_or(|at| at.elapsed() >= EVERY)
    }

    /// Takes the next number that the server would draw; without one nothing is known.
    pub(super) fn told(&mut self, next: Option<i64>) {
        self.highest = next.filter(|&next| next > 0).map(|next| next - 1);
        self.told_at = Some(Instant::now());
    }
}

/// The statement that asks.
pub(super) fn question(tables: &Tables) -> String {
    let schema = tables.schema().map_or_else(|| "database()".to_owned(), |schema| format!("'{schema}'"));
    format!(
        "SELECT t.auto_increment FROM information_schema.tables AS t WHERE t.table_schema = {schema} \
         AND t.table_name = '{}messages'",
        tables.prefix()
    )
}
