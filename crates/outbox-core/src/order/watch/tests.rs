use super::*;

const S: ShardId = ShardId(0);
const MARGIN: Duration = Duration::from_millis(100);
const STEP: Duration = Duration::from_millis(25);

struct Reader {
    tracker: WatchTracker,
    now: Instant,
}

impl Reader {
    fn new() -> Self {
        let mut tracker = WatchTracker::new(MARGIN, WatchMode::Watch);
        tracker.assign(&[S]);
        Self { tracker, now: Instant::now() }
    }

    /// A read a step later that takes these rows and moves the floor to `top`.
    fn read(&mut self, top: Option<i64>, taken: &[i64]) {
        self.read_after(STEP, top, taken);
    }

    fn read_after(&mut self, wait: Duration, top: Option<i64>, taken: &[i64]) {
        self.now += wait;
        let hot = top.map(|top| (S, top, false)).into_iter().collect();
        let taken = taken.iter().map(|&seq| (S, seq)).collect();
        self.tracker.took(&WatchRead { hot, taken, cut: Vec::new() }, self.now);
    }

    fn cut_read(&mut self, taken: &[i64]) {
        self.now += STEP;
        let taken = taken.iter().map(|&seq| (S, seq)).collect();
        self.tracker.took(&WatchRead { hot: Vec::new(), taken, cut: vec![S] }, self.now);
    }

    /// Reads until a range is to be looked at.
    fn ripen(&mut self) {
        for _ in 0..4 {
            self.read(None, &[]);
        }
    }

    /// A look that finds these rows where it looks.
    fn look(&mut self, there: impl IntoIterator<Item = i64>) -> Option<Look> {
        let look = self.tracker.look()?;
        let there: Vec<_> = there.into_iter().filter(|&seq| sees(&look, seq)).map(|seq| (S, seq)).collect();
        self.tracker.looked(&look, &there);
        Some(look)
    }

    fn again(&self) -> Vec<(i64, i64)> {
        self.tracker.plan(100).again.iter().map(|range| (range.after, range.upto)).collect()
    }

    fn keys(&self) -> Vec<i64> {
        self.tracker.plan(100).keys.iter().map(|&(_, seq)| seq).collect()
    }
}

fn sees(look: &Look, seq: i64) -> bool {
    look.keys.contains(&(S, seq)) || look.ranges.iter().any(|range| range.after < seq && seq <= range.upto)
}

#[test]
fn a_passed_range_is_read_again_until_one_read_after_its_look() {
    let mut reader = Reader::new();
    reader.read(Some(100), &[100]);
    for _ in 0..3 {
        reader.read(None, &[]);
        assert_eq!(reader.look([]), None, "the range is young");
    }
    reader.read(None, &[]);
    assert_eq!(reader.again(), [(0, 100)]);
    assert!(reader.look([]).is_some());
    assert_eq!(reader.again(), [(0, 100)], "a removal that is rolled back would show in the next read");
    reader.read(None, &[]);
    assert!(reader.again().is_empty() && !reader.tracker.is_watching());
}

#[test]
fn an_uncommitted_row_is_watched_until_a_read_returns_it() {
    let mut reader = Reader::new();
    reader.read(Some(100), &[90, 100]);
    reader.ripen();
    reader.look([50, 90, 100]);
    reader.read(None, &[]);
    assert_eq!((reader.keys(), reader.again()), (vec![50], vec![]), "90 and 100 were returned");
    reader.ripen();
    reader.look([50]);
    reader.read(None, &[]);
    assert_eq!(reader.keys(), [50]);
    reader.read(None, &[50]);
    assert!(!reader.tracker.is_watching());
}

#[test]
fn a_watched_row_that_vanished_is_read_once_more_and_forgotten() {
    let mut reader = Reader::new();
    reader.read(Some(100), &[100]);
    reader.ripen();
    reader.look([50]);
    reader.ripen();
    assert_eq!(reader.look([]).expect("time to look").keys, [(S, 50)]);
    assert_eq!(reader.keys(), [50]);
    reader.read(None, &[]);
    assert!(reader.keys().is_empty());
}

#[test]
fn a_watched_row_that_a_limit_kept_out_is_not_forgotten() {
    let mut reader = Reader::new();
    reader.read(Some(100), &[100]);
    reader.ripen();
    reader.look([50]);
    reader.ripen();
    reader.look([]);
    reader.cut_read(&[]);
    assert_eq!(reader.keys(), [50]);
    assert_eq!(reader.tracker.floor(S), Some(100));
}

#[test]
fn a_row_that_a_read_saw_but_did_not_take_is_watched() {
    let mut reader = Reader::new();
    reader.read(Some(100), &[100]);
    reader.cut_read(&[40]);
    reader.ripen();
    reader.look([40, 41, 100]);
    reader.read(None, &[]);
    assert_eq!(reader.keys(), [41]);
}

#[test]
fn a_range_does_not_grow_old_while_nobody_reads() {
    let mut reader = Reader::new();
    reader.read(Some(100), &[100]);
    reader.read_after(Duration::from_secs(10), None, &[]);
    assert_eq!(reader.look([]), None, "a server that was stopped may go on just now");
    reader.read(None, &[]);
    reader.read(None, &[]);
    assert_eq!(reader.look([]), None);
    reader.read(None, &[]);
    assert!(reader.look([]).is_some());
}

#[test]
fn a_range_that_grows_is_as_young_as_its_youngest_row() {
    let mut reader = Reader::new();
    let young = Duration::from_millis(10);
    for top in [100, 200, 300] {
        reader.read_after(young, Some(top), &[top]);
    }
    assert_eq!(reader.again(), [(0, 300)]);
    for _ in 0..9 {
        reader.read_after(young, None, &[]);
    }
    assert_eq!(reader.look([]), None, "300 is not 100 ms old");
    reader.read_after(young, None, &[]);
    assert_eq!(reader.look([]).expect("ripe").ranges[0].upto, 300);
}

#[test]
fn a_busy_reader_looks_at_ranges_one_after_the_other() {
    let mut reader = Reader::new();
    let mut looks = 0;
    for top in 1..=1000 {
        reader.read_after(Duration::from_millis(2), Some(top * 10), &[top * 10]);
        looks += usize::from(reader.look([]).is_some());
        assert!(reader.tracker.shards[&S].pieces.len() <= 8);
    }
    assert!((60..=80).contains(&looks), "{looks} looks in 2 s");
    let low = reader.again()[0].0;
    assert!(low >= 10_000 - 800, "{low}");
    assert!(reader.tracker.shards[&S].known.len() <= 80);
}

#[test]
fn known_rows_are_told_and_do_not_use_up_the_looks_limit() {
    let mut reader = Reader::new();
    let many: Vec<i64> = (1..=50_000).collect();
    reader.read(Some(50_000), &many);
    assert!(reader.tracker.is_known(S, 7) && !reader.tracker.is_known(S, 50_001));
    assert_eq!(reader.tracker.plan(10).again[0].known, 50_000);
    reader.ripen();
    reader.look(1..=50_000);
    reader.read(None, &[]);
    assert!(!reader.tracker.is_watching() && !reader.tracker.is_known(S, 7));
}

#[test]
fn a_bulk_load_that_stays_open_is_watched_as_a_range_and_others_go_on() {
    const OPEN: i64 = 1_000_000;
    let mut reader = Reader::new();
    let top = OPEN + 1;
    reader.read(Some(top), &[top]);
    for _ in 0..4 {
        reader.read(None, &[]);
    }
    while let Some(look) = reader.tracker.look().filter(|look| look.ranges.iter().any(|range| !range.watched)) {
        let open = |range: &LookRange| (range.after + 1..=range.upto.min(OPEN)).take(range.limit).map(|seq| (S, seq));
        let there: Vec<_> = look.ranges.iter().flat_map(open).chain(look.keys.iter().copied()).collect();
        reader.tracker.looked(&look, &there);
        reader.read(None, &[]);
    }
    assert!(reader.again().len() <= 2, "{:?}", reader.again());
    let state = &reader.tracker.shards[&S];
    assert!(
        state.keys.len() <= KEYS && state.known.len() <= 1,
        "{} keys, {} known",
        state.keys.len(),
        state.known.len()
    );
    let covered = |seq| state.keys.contains_key(&seq) || state.holds(seq);
    assert!((1..=OPEN).all(covered), "a row of the transaction is not watched");
    reader.read(Some(top + 10), &[top + 10]);
    reader.ripen();
    assert!(reader.tracker.look().expect("ripe").ranges.iter().any(|range| range.after == top));
}

#[test]
fn a_watched_range_shrinks_and_ends_as_its_rows_are_returned() {
    let mut reader = Reader::new();
    let open: Vec<i64> = (1..=60_000).collect();
    reader.read(Some(60_001), &[60_001]);
    for _ in 0..20 {
        reader.read(None, &[]);
        reader.look(open.iter().copied().chain([60_001]));
    }
    assert!(reader.tracker.shards[&S].pieces.iter().any(|piece| piece.stage == piece::Stage::Watched));
    let mut rest = open.as_slice();
    while !rest.is_empty() {
        let (now, later) = rest.split_at(rest.len().min(1_000));
        reader.cut_read(now);
        rest = later;
    }
    for _ in 0..20 {
        reader.read(None, &[]);
        reader.look(open.iter().copied()); // returned, and not settled yet
    }
    assert!(!reader.tracker.is_watching(), "{:?}", reader.tracker.plan(1));
}

#[test]
fn a_rewind_makes_what_lies_above_hot_again() {
    let mut reader = Reader::new();
    reader.read(Some(100), &[10, 100]);
    reader.ripen();
    reader.look([50, 70]);
    reader.read(Some(200), &[200]);
    reader.tracker.rewind(S, 61);
    assert_eq!(reader.tracker.floor(S), Some(60));
    assert_eq!((reader.again(), reader.keys()), (vec![], vec![50]));
    reader.tracker.rewind(S, 90);
    assert_eq!(reader.tracker.floor(S), Some(60), "never forward");
    reader.tracker.rewind(S, 0);
    assert_eq!(reader.tracker.floor(S), Some(0));
    assert!(!reader.tracker.is_watching());
}

#[test]
fn what_a_look_found_does_not_count_after_a_rewind_below_it() {
    let mut reader = Reader::new();
    reader.read(Some(100), &[100]);
    reader.ripen();
    let look = reader.tracker.look().expect("ripe");
    reader.tracker.rewind(S, 31);
    reader.tracker.looked(&look, &[(S, 20), (S, 50)]);
    assert_eq!((reader.again(), reader.keys()), (vec![(0, 30)], vec![]));
}

#[test]
fn an_assigned_shard_starts_at_the_bottom_and_a_lost_one_is_forgotten() {
    let mut reader = Reader::new();
    reader.read(Some(300), &[300]);
    reader.tracker.assign(&[ShardId(1)]);
    assert!(!reader.tracker.is_watching());
    reader.tracker.assign(&[S, ShardId(1)]);
    assert_eq!(reader.tracker.floor(S), Some(0));
    let hot: Vec<_> = reader.tracker.plan(100).hot.iter().map(|range| range.shard).collect();
    assert_eq!(hot, [S, ShardId(1)]);
}
