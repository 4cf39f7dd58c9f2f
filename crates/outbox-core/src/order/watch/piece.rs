use std::time::{Duration, Instant};

/// The time between two reads counts for at most this part of the margin, and a range grows for as long.
const PARTS: u32 = 4;

/// A range below the floor that every read covers: `after < seq <= upto`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Piece {
    pub(super) after: i64,
    pub(super) upto: i64,
    pub(super) stage: Stage,
}

/// In a shard, pieces are in this order of stages from the floor down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// A row of it may be drawn and not be there.
    Young { since: Instant, seen_at: Instant, age: Duration },
    /// To be looked at.
    Ripe,
    /// Looked at: more of it is uncommitted than can be watched row by row.
    Watched,
    /// Looked at: part of one more read.
    Done,
}

impl Piece {
    pub(super) fn young(after: i64, upto: i64, replied_at: Instant) -> Self {
        Self { after, upto, stage: Stage::Young { since: replied_at, seen_at: replied_at, age: Duration::ZERO } }
    }

    pub(super) fn holds(&self, seq: i64) -> bool {
        self.after < seq && seq <= self.upto
    }

    /// One read later.
    pub(super) fn grow_older(&mut self, replied_at: Instant, margin: Duration) {
        if let Stage::Young { seen_at, age, .. } = &mut self.stage {
            *age += replied_at.saturating_duration_since(*seen_at).min(margin / PARTS);
            *seen_at = replied_at.max(*seen_at);
            if *age >= margin {
                self.stage = Stage::Ripe;
            }
        }
    }

    /// Takes what the floor passes next, as long as this piece began only just now. All of it is as young as its youngest row.
    pub(super) fn extend(&mut self, top: i64, replied_at: Instant, margin: Duration) -> bool {
        let Stage::Young { since, .. } = self.stage else { return false };
        let grows = replied_at.saturating_duration_since(since) < margin / PARTS;
        if grows {
            self.upto = top;
            self.stage = Stage::Young { since, seen_at: replied_at, age: Duration::ZERO };
        }
        grows
    }
}
