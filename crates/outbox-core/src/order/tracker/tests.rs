use super::*;

const S: ShardId = ShardId(0);

fn tracker() -> SnapshotTracker {
    let mut tracker = SnapshotTracker::new(TrackerMode::Horizon);
    tracker.assign(&[S]);
    tracker
}

fn read(tracker: &mut SnapshotTracker, xmax: u64, running: &[u64], top: Option<i64>) {
    let snapshot = Snapshot { xmax, running: running.iter().copied().collect() };
    let hot = top.map(|top| (S, top, false)).into_iter().collect();
    tracker.observe(&Observed { snapshot, hot, ..Observed::default() });
}

fn late(tracker: &SnapshotTracker) -> Vec<(i64, i64, Option<u64>)> {
    tracker.plan(100).late.into_iter().map(|range| (range.after, range.upto, range.watch)).collect()
}

#[test]
fn a_snapshot_is_parsed() {
    let snapshot = Snapshot::parse("10:20:10,14").unwrap();
    assert_eq!((snapshot.xmax, snapshot.running.len()), (20, 2));
    assert!(snapshot.has_ended(11) && !snapshot.has_ended(14) && !snapshot.has_ended(20));
    assert!(Snapshot::parse("10:20:").unwrap().running.is_empty());
    assert_eq!(Snapshot::parse("nonsense"), None);
}

#[test]
fn a_passed_range_is_read_again_until_a_horizon_covers_it() {
    let mut tracker = tracker();
    read(&mut tracker, 20, &[14], Some(100));
    assert_eq!(late(&tracker), [(0, 100, None)]);
    read(&mut tracker, 22, &[14], None);
    assert_eq!(late(&tracker), [(0, 100, None)], "no horizon yet");
    tracker.advance_horizon(Horizon { last_seq: 100, next_xid: 30 });
    read(&mut tracker, 30, &[14], None);
    assert_eq!(late(&tracker), [(0, 100, None)], "xmax must be above the horizon's id");
    read(&mut tracker, 31, &[14, 30], None);
    assert_eq!(late(&tracker), [(0, 100, Some(14))], "30 cannot have written into it");
    read(&mut tracker, 33, &[30], None);
    assert!(late(&tracker).is_empty(), "14 ended and the range was read at that snapshot");
}

#[test]
fn a_segment_is_cut_where_the_horizon_ends() {
    let mut tracker = tracker();
    tracker.advance_horizon(Horizon { last_seq: 60, next_xid: 10 });
    read(&mut tracker, 20, &[5, 15], Some(100));
    assert_eq!(late(&tracker), [(60, 100, None), (0, 60, Some(5))]);
}

#[test]
fn with_nothing_running_no_segment_outlives_the_read_that_made_it() {
    let mut tracker = tracker();
    tracker.advance_horizon(Horizon { last_seq: 1000, next_xid: 10 });
    read(&mut tracker, 11, &[], Some(500));
    assert!(late(&tracker).is_empty() && !tracker.is_watching());
}

#[test]
fn neighbours_with_the_same_transactions_merge() {
    let mut tracker = tracker();
    tracker.advance_horizon(Horizon { last_seq: 1000, next_xid: 10 });
    for top in [100, 200, 300] {
        read(&mut tracker, 20, &[5], Some(top));
    }
    assert_eq!(late(&tracker), [(0, 300, Some(5))]);
}

#[test]
fn a_rewind_makes_what_lies_above_hot_again() {
    let mut tracker = tracker();
    tracker.advance_horizon(Horizon { last_seq: 1000, next_xid: 10 });
    read(&mut tracker, 20, &[5], Some(300));
    tracker.rewind(S, 101);
    assert_eq!(tracker.floor(S), Some(100));
    assert_eq!(late(&tracker), [(0, 100, Some(5))]);
    tracker.rewind(S, 200);
    assert_eq!(tracker.floor(S), Some(100), "never forward");
    tracker.rewind(S, 0);
    assert!(late(&tracker).is_empty());
}

#[test]
fn a_late_range_that_was_cut_stays_open_from_where_it_was_cut() {
    let mut tracker = tracker();
    tracker.advance_horizon(Horizon { last_seq: 1000, next_xid: 10 });
    read(&mut tracker, 20, &[5], Some(300));
    let range = LateRange { shard: S, after: 0, upto: 300, watch: Some(5) };
    let snapshot = Snapshot { xmax: 21, running: BTreeSet::new() };
    tracker.observe(&Observed { snapshot, cut: vec![(range, 50)], ..Observed::default() });
    assert_eq!(late(&tracker), [(50, 300, None)]);
}

#[test]
fn an_assigned_shard_starts_at_the_bottom_and_a_lost_one_is_forgotten() {
    let mut tracker = tracker();
    read(&mut tracker, 20, &[], Some(300));
    tracker.assign(&[ShardId(1)]);
    tracker.assign(&[S, ShardId(1)]);
    assert_eq!(tracker.floor(S), Some(0));
}

#[test]
fn a_transaction_that_had_taken_nothing_when_the_horizon_was_known_is_not_watched() {
    let mut tracker = tracker();
    let running = || Snapshot { xmax: 31, running: [14, 15].into() };
    read(&mut tracker, 20, &[14, 15], Some(100));
    tracker.advance_horizon(Horizon { last_seq: 100, next_xid: 30 });
    tracker.observe(&Observed { snapshot: running(), idle: [15].into(), ..Observed::default() });
    assert_eq!(late(&tracker), [(0, 100, Some(14))]);
    tracker.observe(&Observed { snapshot: running(), idle: [14].into(), ..Observed::default() });
    assert_eq!(late(&tracker), [], "also when it was watched before");
}

#[test]
fn a_transaction_that_was_idle_once_is_watched_for_what_the_next_horizon_covers() {
    let mut tracker = tracker();
    tracker.advance_horizon(Horizon { last_seq: 100, next_xid: 30 });
    let hot = vec![(S, 100, false)];
    tracker.observe(&Observed {
        snapshot: Snapshot { xmax: 31, running: [14].into() },
        hot,
        idle: [14].into(),
        ..Observed::default()
    });
    read(&mut tracker, 40, &[14], Some(200));
    tracker.advance_horizon(Horizon { last_seq: 200, next_xid: 45 });
    read(&mut tracker, 46, &[14], None);
    assert_eq!(late(&tracker), [(100, 200, Some(14))]);
}
