//! The tracker against a small modelled table, in any order of events.

use proptest::prelude::*;

use super::*;

const MARGIN: Duration = Duration::from_millis(100);

#[derive(Debug, Clone)]
enum Step {
    /// A transaction appends a row, which a dirty read sees so many milliseconds later.
    Append {
        transaction: usize,
        shard: u16,
        slow_ms: u64,
    },
    /// A transaction ends, when all its rows are there.
    End {
        transaction: usize,
        commits: bool,
    },
    /// Somebody begins to remove a committed row.
    Remove {
        row: usize,
    },
    /// The removal ends.
    EndRemoval {
        row: usize,
        commits: bool,
    },
    Read {
        rows: usize,
        counts: bool,
    },
    Look,
    Rewind {
        shard: u16,
        from_seq: i64,
    },
    Wait {
        ms: u64,
    },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (0..4usize, 0..2u16, 0..99u64)
            .prop_map(|(transaction, shard, slow_ms)| Step::Append { transaction, shard, slow_ms }),
        6 => (0..4usize, prop::bool::weighted(0.8)).prop_map(|(transaction, commits)| Step::End { transaction, commits }),
        1 => (0..40usize).prop_map(|row| Step::Remove { row }),
        1 => (0..40usize, any::<bool>()).prop_map(|(row, commits)| Step::EndRemoval { row, commits }),
        8 => (1..6usize, any::<bool>()).prop_map(|(rows, counts)| Step::Read { rows, counts }),
        6 => Just(Step::Look),
        1 => (0..2u16, 0..40i64).prop_map(|(shard, from_seq)| Step::Rewind { shard, from_seq }),
        8 => (0..60u64).prop_map(|ms| Step::Wait { ms }),
    ]
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Open { transaction: usize },
    Committed { at: usize },
    Gone,
}

#[derive(Debug, Clone)]
struct Row {
    shard: ShardId,
    seq: i64,
    appended_at: usize,
    there_at_ms: u64,
    state: State,
    being_removed: bool,
    returned: bool,
}

struct World {
    tracker: WatchTracker,
    start: Instant,
    now_ms: u64,
    events: usize,
    rows: Vec<Row>,
}

impl World {
    fn new(mode: WatchMode, margin: Duration) -> Self {
        let mut tracker = WatchTracker::new(margin, mode);
        tracker.assign(&[ShardId(0), ShardId(1)]);
        Self { tracker, start: Instant::now(), now_ms: 0, events: 0, rows: Vec::new() }
    }

    fn run(&mut self, steps: &[Step]) -> Result<(), String> {
        steps.iter().try_for_each(|step| self.step(step))?;
        self.step(&Step::Wait { ms: 100 })?;
        for transaction in 0..4 {
            self.step(&Step::End { transaction, commits: true })?;
        }
        self.rows.iter_mut().for_each(|row| row.being_removed = false);
        for _ in 0..40 {
            self.step(&Step::Wait { ms: 30 })?;
            self.step(&Step::Look)?;
            self.step(&Step::Read { rows: 10, counts: true })?;
        }
        let lost = self.rows.iter().find(|row| self.is_due(row));
        if let Some(lost) = lost {
            return Err(format!("{lost:?} was never returned"));
        }
        if self.tracker.is_watching() {
            return Err(format!("still watching {:?}", self.tracker.plan(1)));
        }
        Ok(())
    }

    fn step(&mut self, step: &Step) -> Result<(), String> {
        self.events += 1;
        match *step {
            Step::Append { transaction, shard, slow_ms } => self.rows.push(Row {
                shard: ShardId(shard),
                seq: i64::try_from(self.rows.len()).unwrap_or(0) + 1,
                appended_at: self.events,
                there_at_ms: self.now_ms + slow_ms,
                state: State::Open { transaction },
                being_removed: false,
                returned: false,
            }),
            Step::End { transaction, commits } => self.end(transaction, commits),
            Step::Remove { row } => {
                let committed = self.rows.get_mut(row).filter(|row| matches!(row.state, State::Committed { .. }));
                committed.into_iter().for_each(|row| row.being_removed = true);
            }
            Step::EndRemoval { row, commits } => {
                if let Some(row) = self.rows.get_mut(row).filter(|row| row.being_removed) {
                    row.being_removed = false;
                    row.state = if commits { State::Gone } else { row.state };
                }
            }
            Step::Read { rows, counts } => self.read(rows, counts)?,
            Step::Look => self.look(),
            Step::Rewind { shard, from_seq } => {
                self.tracker.rewind(ShardId(shard), from_seq);
                let again = self.rows.iter_mut().filter(|row| row.shard == ShardId(shard) && row.seq >= from_seq);
                again.for_each(|row| row.returned = false);
            }
            Step::Wait { ms } => self.now_ms += ms,
        }
        Ok(())
    }

    fn end(&mut self, transaction: usize, commits: bool) {
        let (now_ms, at) = (self.now_ms, self.events);
        let of_it = |row: &Row| row.state == State::Open { transaction };
        if self.rows.iter().filter(|row| of_it(row)).all(|row| row.there_at_ms <= now_ms) {
            let state = if commits { State::Committed { at } } else { State::Gone };
            self.rows.iter_mut().filter(|row| of_it(row)).for_each(|row| row.state = state);
        }
    }

    fn is_due(&self, row: &Row) -> bool {
        matches!(row.state, State::Committed { .. }) && !row.returned
    }

    /// One statement that returns at most so many rows, and its reply 2 ms later. A floor goes to the last row that was found, or past
    /// everything that was drawn before the statement.
    fn read(&mut self, rows: usize, counts: bool) -> Result<(), String> {
        let plan = self.tracker.plan(rows);
        let drawn = if counts { i64::try_from(self.rows.len()).unwrap_or(0) } else { 0 };
        let mut read = WatchRead::default();
        let committed = |row: &&Row| matches!(row.state, State::Committed { .. });
        for hot in &plan.hot {
            let covered = |row: &Row| {
                let (shard, seq) = (row.shard, row.seq);
                let again =
                    plan.again.iter().any(|range| range.shard == shard && range.after < seq && seq <= range.upto);
                let known = again && self.tracker.is_known(shard, seq);
                (again && !known) || plan.keys.contains(&(shard, seq))
            };
            let of_shard = || self.rows.iter().filter(committed).filter(|row| row.shard == hot.shard);
            let late: Vec<i64> = of_shard().filter(|row| covered(row)).map(|row| row.seq).collect();
            let room = rows - read.taken.len();
            read.taken.extend(late.iter().take(room).map(|&seq| (hot.shard, seq)));
            if late.len() > room {
                read.cut.push(hot.shard);
                continue;
            }
            let room = (rows - read.taken.len()).min(hot.limit);
            let all: Vec<i64> = of_shard().filter(|row| row.seq > hot.after).map(|row| row.seq).collect();
            let top = all.iter().copied().take(room).next_back().unwrap_or(hot.after);
            read.taken.extend(all.iter().take(room).map(|&seq| (hot.shard, seq)));
            let cut = all.len() > room;
            read.hot.push((hot.shard, if cut { top } else { top.max(drawn) }, cut));
        }
        self.check_order(&read.taken)?;
        for row in &mut self.rows {
            row.returned |= read.taken.contains(&(row.shard, row.seq));
        }
        self.now_ms += 2;
        self.tracker.took(&read, self.start + Duration::from_millis(self.now_ms));
        Ok(())
    }

    /// All rows of a shard are of one key here.
    fn check_order(&self, returned: &[(ShardId, i64)]) -> Result<(), String> {
        for later in self.rows.iter().filter(|row| returned.contains(&(row.shard, row.seq))) {
            let missing = self.rows.iter().find(|row| {
                let precedes = matches!(row.state, State::Committed { at } if at < later.appended_at);
                let returned = returned.contains(&(row.shard, row.seq));
                row.shard == later.shard && precedes && self.is_due(row) && !returned
            });
            if let Some(missing) = missing {
                return Err(format!("{later:?} was returned before {missing:?}"));
            }
        }
        Ok(())
    }

    fn look(&mut self) {
        let Some(look) = self.tracker.look() else { return };
        let listed = |row: &&Row| {
            let there = row.there_at_ms <= self.now_ms && row.state != State::Gone && !row.being_removed;
            let range = |range: &LookRange| range.shard == row.shard && range.after < row.seq && row.seq <= range.upto;
            there && (look.keys.contains(&(row.shard, row.seq)) || look.ranges.iter().any(range))
        };
        let there: Vec<_> = self.rows.iter().filter(listed).map(|row| (row.shard, row.seq)).collect();
        self.tracker.looked(&look, &there);
    }
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    prop::collection::vec(step(), 0..150)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn nothing_is_lost_or_returned_before_what_it_follows(steps in steps()) {
        World::new(WatchMode::Watch, MARGIN).run(&steps).map_err(TestCaseError::fail)?;
    }
}

/// A transaction draws 1 and is slow, another commits 2, the first commits, a third appends 3.
fn a_late_commit() -> Vec<Step> {
    let wait = |ms| Step::Wait { ms };
    vec![
        Step::Append { transaction: 0, shard: 0, slow_ms: 90 },
        Step::Append { transaction: 1, shard: 0, slow_ms: 0 },
        Step::End { transaction: 1, commits: true },
        Step::Look,
        Step::Read { rows: 5, counts: false },
        Step::Look,
        Step::Read { rows: 5, counts: false },
        Step::Look,
        Step::Read { rows: 5, counts: false },
        wait(90),
        Step::End { transaction: 0, commits: true },
        Step::Append { transaction: 1, shard: 0, slow_ms: 0 },
        Step::End { transaction: 1, commits: true },
        Step::Read { rows: 5, counts: false },
    ]
}

#[test]
fn a_late_commit_comes_first() {
    assert_eq!(World::new(WatchMode::Watch, MARGIN).run(&a_late_commit()), Ok(()));
}

#[test]
fn without_the_margin_a_late_commit_is_lost() {
    let outcome = World::new(WatchMode::Watch, Duration::ZERO).run(&a_late_commit());
    assert!(outcome.is_err_and(|error| error.contains("was returned before")));
}

#[cfg(feature = "simulation")]
#[test]
fn without_looks_or_with_looks_ahead_a_late_commit_is_lost() {
    for mode in [WatchMode::FloorOnly, WatchMode::LookFirst] {
        assert!(World::new(mode, MARGIN).run(&a_late_commit()).is_err(), "{mode:?}");
    }
}
