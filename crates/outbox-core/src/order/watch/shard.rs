use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use super::piece::{Piece, Stage};
use super::{Again, LookRange};
use crate::ports::ShardId;

/// Ranges of one shard that are watched as ranges; the closest of them are joined when there are more.
const WATCHED_RANGES: usize = 8;

/// What one shard may use.
#[derive(Debug, Clone, Copy)]
pub(super) struct Room {
    /// Watched rows.
    pub(super) keys: usize,
    /// Rows that a look lists beyond those.
    pub(super) rows: usize,
}

#[derive(Debug, Default)]
pub(super) struct Shard {
    pub(super) floor: i64,
    pub(super) hungry: bool,
    /// Ascending, apart from each other.
    pub(super) pieces: Vec<Piece>,
    /// Watched rows, each with whether the last look missed it.
    pub(super) keys: BTreeMap<i64, bool>,
    /// Rows of the pieces that were returned.
    pub(super) known: BTreeSet<i64>,
    /// What the look before the read listed.
    #[cfg(feature = "simulation")]
    pub(super) listed_ahead: BTreeSet<i64>,
}

impl Shard {
    pub(super) fn at_the_bottom() -> Self {
        Self { hungry: true, ..Self::default() }
    }

    pub(super) fn rewind(&mut self, floor: i64) {
        if floor >= self.floor {
            return;
        }
        self.floor = floor;
        self.hungry = true;
        self.pieces.retain(|piece| piece.after < floor);
        self.pieces.iter_mut().for_each(|piece| piece.upto = piece.upto.min(floor));
        self.keys.split_off(&(floor + 1));
        self.known.split_off(&(floor + 1));
    }

    /// The pieces, joined where they touch.
    pub(super) fn again(&self, shard: ShardId) -> Vec<Again> {
        let mut ranges: Vec<Again> = Vec::new();
        for &Piece { after, upto, .. } in &self.pieces {
            let known = self.known_in(after, upto);
            match ranges.last_mut() {
                Some(last) if last.upto == after => (last.upto, last.known) = (upto, last.known + known),
                _ => ranges.push(Again { shard, after, upto, known }),
            }
        }
        ranges
    }

    /// Watched rows that no piece holds.
    pub(super) fn keys_apart(&self) -> impl Iterator<Item = i64> + '_ {
        self.keys.keys().copied().filter(|&seq| !self.holds(seq))
    }

    pub(super) fn holds(&self, seq: i64) -> bool {
        let next = self.pieces.partition_point(|piece| piece.upto < seq);
        self.pieces.get(next).is_some_and(|piece| piece.holds(seq))
    }

    fn known_in(&self, after: i64, upto: i64) -> usize {
        self.known.range(after + 1..=upto).count()
    }

    /// A read covered everything: what the look before it missed is gone.
    pub(super) fn forget_what_is_gone(&mut self) {
        self.keys.retain(|_, missing| !*missing);
        let before = self.pieces.len();
        self.pieces.retain(|piece| piece.stage != Stage::Done);
        if self.pieces.len() < before {
            let mut known = std::mem::take(&mut self.known);
            known.retain(|&seq| self.holds(seq));
            self.known = known;
            self.join_watched();
        }
    }

    pub(super) fn grow_older(&mut self, replied_at: Instant, margin: Duration) {
        self.pieces.iter_mut().for_each(|piece| piece.grow_older(replied_at, margin));
        self.pieces.dedup_by(|next, piece| {
            let joins = (piece.stage, next.stage) == (Stage::Ripe, Stage::Ripe) && piece.upto == next.after;
            if joins {
                piece.upto = next.upto;
            }
            joins
        });
    }

    /// The floor moves up.
    pub(super) fn pass(&mut self, top: i64, replied_at: Instant, margin: Duration) {
        let after = std::mem::replace(&mut self.floor, top);
        let extended =
            self.pieces.last_mut().is_some_and(|last| last.upto == after && last.extend(top, replied_at, margin));
        if !extended {
            self.pieces.push(Piece::young(after, top, replied_at));
        }
    }

    pub(super) fn returned(&mut self, seq: i64) {
        self.keys.remove(&seq);
        if self.holds(seq) {
            self.known.insert(seq);
        }
    }

    /// Ranges to be looked at: ripe ones, and with `watched` those that are watched as ranges.
    pub(super) fn look(&self, shard: ShardId, watched: bool, room: Room) -> Vec<LookRange> {
        let free = room.keys.saturating_sub(self.keys.len());
        let range = |piece: &Piece| {
            let rows = match piece.stage {
                Stage::Ripe => room.rows,
                Stage::Watched if watched => 1,
                _ => return None,
            };
            let limit = self.known_in(piece.after, piece.upto) + free + rows;
            let watched = piece.stage == Stage::Watched;
            Some(LookRange { shard, after: piece.after, upto: piece.upto, limit, watched })
        };
        self.pieces.iter().filter_map(range).collect()
    }

    /// Takes the rows that a look found in a range.
    pub(super) fn list(&mut self, range: &LookRange, there: &BTreeSet<i64>, room: Room) {
        let is_it = |piece: &Piece| (piece.after, piece.upto) == (range.after, range.upto);
        let looked_at = |piece: &Piece| matches!(piece.stage, Stage::Ripe | Stage::Watched);
        let Some(at) = self.pieces.iter().position(|piece| is_it(piece) && looked_at(piece)) else { return };
        let there: Vec<i64> = there.range(range.after + 1..=range.upto).take(range.limit).copied().collect();
        let end = if there.len() < range.limit { range.upto } else { there.last().copied().unwrap_or(range.upto) };
        let unknown: Vec<i64> = there.into_iter().filter(|seq| !self.known.contains(seq)).collect();
        let stage = self.pieces[at].stage;
        let rest = Piece { after: end, ..self.pieces[at] };
        let piece = |after, upto, stage| Piece { after, upto, stage };
        let mut parts = Vec::new();
        let fits = self.keys.len() + unknown.len() <= room.keys;
        match unknown.first() {
            // A range that is watched is worth its rows one by one only when that is all of it.
            Some(&first) if !fits || (stage == Stage::Watched && end < range.upto) => {
                let upto = if stage == Stage::Watched { range.upto } else { end };
                parts.push(piece(range.after, first - 1, Stage::Done));
                parts.push(piece(first - 1, upto, Stage::Watched));
                parts.push(Piece { after: upto, ..rest });
            }
            _ => {
                self.keys.extend(unknown.into_iter().map(|seq| (seq, false)));
                parts.push(piece(range.after, end, Stage::Done));
                parts.push(rest);
            }
        }
        parts.retain(|part| part.after < part.upto);
        self.pieces.splice(at..=at, parts);
    }

    /// Joins watched ranges that touch, and the closest ones while there are too many.
    fn join_watched(&mut self) {
        let gap = |pair: &[Piece]| {
            let both = pair.iter().all(|piece| piece.stage == Stage::Watched);
            both.then(|| pair[1].after - pair[0].upto)
        };
        loop {
            let closest = self.pieces.windows(2).enumerate().filter_map(|(at, pair)| Some((gap(pair)?, at))).min();
            let Some((gap, at)) = closest else { return };
            let watched = self.pieces.iter().filter(|piece| piece.stage == Stage::Watched).count();
            if gap > 0 && watched <= WATCHED_RANGES {
                return;
            }
            self.pieces[at].upto = self.pieces[at + 1].upto;
            self.pieces.remove(at + 1);
        }
    }
}
