use std::collections::{HashMap, HashSet};

use uuid::Uuid;

use crate::events::is_stray;

/// An event that was committed, by the database's record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Committed {
    pub(crate) id: Uuid,
    pub(crate) key: String,
    /// Its place among the events of its key, from 1.
    pub(crate) n: i64,
}

/// A record of the broker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) partition: i32,
    pub(crate) offset: i64,
    /// When the broker appended it, in milliseconds since 1970.
    pub(crate) appended_at_ms: i64,
    /// Names the relay run that published it.
    pub(crate) source: String,
    pub(crate) id: Uuid,
    pub(crate) key: String,
    pub(crate) n: i64,
}

/// What a run has to answer for.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Findings {
    /// Committed and neither delivered nor, where it should be, among the dead letters.
    pub(crate) lost: Vec<String>,
    /// Delivered and never committed, or with another content than was committed.
    pub(crate) ghosts: Vec<String>,
    /// First deliveries of a key that are out of order or on a second partition.
    pub(crate) disorder: Vec<String>,
    /// Dead letters of events that could be delivered, or were.
    pub(crate) wrongly_dead: Vec<String>,
    /// Dead letters as they should be: of events that no queue takes.
    pub(crate) rightly_dead: usize,
    /// When the second and later deliveries of an event were appended, in milliseconds since 1970.
    pub(crate) duplicates_at_ms: Vec<i64>,
}

/// Compares what the broker has and what is dead with what was committed. `records` are in the order of each partition. With
/// `strays_die` the events of stray keys, and only they, belong among the dead letters.
pub(crate) fn verify(committed: &[Committed], records: &[Record], dead: &[Uuid], strays_die: bool) -> Findings {
    let known: HashMap<Uuid, &Committed> = committed.iter().map(|event| (event.id, event)).collect();
    let mut findings = Findings::default();
    let mut delivered = HashSet::new();
    let mut last: HashMap<&str, (i64, i32)> = HashMap::new();
    for record in records {
        let place = format!("partition {} offset {}: {} n {}", record.partition, record.offset, record.key, record.n);
        match known.get(&record.id) {
            Some(event) if event.key == record.key && event.n == record.n => {}
            _ => {
                findings.ghosts.push(place);
                continue;
            }
        }
        if !delivered.insert(record.id) {
            findings.duplicates_at_ms.push(record.appended_at_ms);
            continue;
        }
        let (n, partition) = last.get(record.key.as_str()).copied().unwrap_or((0, record.partition));
        if record.n <= n || record.partition != partition {
            findings.disorder.push(format!("{place} after n {n} of partition {partition}"));
        }
        last.insert(&record.key, (record.n.max(n), record.partition));
    }
    let mut buried = HashSet::new();
    for id in dead {
        match known.get(id) {
            Some(event) if strays_die && is_stray(&event.key) && !delivered.contains(id) => {
                buried.insert(*id);
            }
            Some(event) => findings.wrongly_dead.push(format!("{} n {}", event.key, event.n)),
            None => findings.wrongly_dead.push(id.to_string()),
        }
    }
    findings.rightly_dead = buried.len();
    let lost = committed.iter().filter(|event| !delivered.contains(&event.id) && !buried.contains(&event.id));
    findings.lost = lost.map(|event| format!("{} n {}", event.key, event.n)).collect();
    findings
}

/// Assigns duplicates to the latest fault that had begun when they were appended: how many came before any, and how many after each.
/// `begun_at_ms` ascends.
pub(crate) fn attribute(duplicates_at_ms: &[i64], begun_at_ms: &[i64]) -> (usize, Vec<usize>) {
    let mut before = 0;
    let mut after = vec![0; begun_at_ms.len()];
    for at in duplicates_at_ms {
        match begun_at_ms.partition_point(|begun| begun <= at) {
            0 => before += 1,
            fault => after[fault - 1] += 1,
        }
    }
    (before, after)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::events::keys;

    fn event(id: u128, n: i64) -> Committed {
        Committed { id: Uuid::from_u128(id), key: "a".to_owned(), n }
    }

    fn record(offset: i64, id: u128, n: i64) -> Record {
        let (source, key) = ("/relay".to_owned(), "a".to_owned());
        Record { partition: 0, offset, appended_at_ms: offset, source, id: Uuid::from_u128(id), key, n }
    }

    #[test]
    fn everything_once_and_in_order_is_clean() {
        let findings = verify(&[event(1, 1), event(2, 2)], &[record(0, 1, 1), record(1, 2, 2)], &[], false);
        assert_eq!(findings, Findings::default());
    }

    #[test]
    fn a_late_duplicate_is_counted_and_no_disorder() {
        let records = [record(0, 1, 1), record(1, 2, 2), record(2, 1, 1)];
        let findings = verify(&[event(1, 1), event(2, 2)], &records, &[], false);
        assert_eq!(findings, Findings { duplicates_at_ms: vec![2], ..Findings::default() });
    }

    #[test]
    fn a_first_delivery_after_its_successor_is_disorder() {
        let findings = verify(&[event(1, 1), event(2, 2)], &[record(0, 2, 2), record(1, 1, 1)], &[], false);
        assert_eq!(findings.disorder.len(), 1);
    }

    #[test]
    fn a_missing_event_is_lost_and_an_unknown_or_altered_one_a_ghost() {
        let findings = verify(&[event(1, 1), event(2, 2)], &[record(0, 1, 7), record(1, 3, 1)], &[], false);
        assert_eq!((findings.lost.len(), findings.ghosts.len()), (2, 2));
    }

    #[test]
    fn a_second_partition_of_a_key_is_disorder() {
        let mut elsewhere = record(1, 2, 2);
        elsewhere.partition = 1;
        let findings = verify(&[event(1, 1), event(2, 2)], &[record(0, 1, 1), elsewhere], &[], false);
        assert_eq!(findings.disorder.len(), 1);
    }

    #[test]
    fn a_dead_letter_is_right_only_for_an_event_that_no_queue_takes() {
        let stray = Committed { key: keys(1).remove(0), ..event(2, 1) };
        let (committed, delivered, dead) = ([event(1, 1), stray], [record(0, 1, 1)], [Uuid::from_u128(2)]);
        let findings = verify(&committed, &delivered, &dead, true);
        assert_eq!(findings, Findings { rightly_dead: 1, ..Findings::default() });
        let findings = verify(&committed, &delivered, &dead, false);
        assert_eq!((findings.wrongly_dead.len(), findings.lost.len()), (1, 1));
        let findings = verify(&committed, &[], &[Uuid::from_u128(1)], true);
        assert_eq!((findings.wrongly_dead.len(), findings.lost.len()), (1, 2));
    }

    #[test]
    fn duplicates_belong_to_the_latest_fault_that_had_begun() {
        assert_eq!(attribute(&[5, 10, 19, 20, 99], &[10, 20]), (1, vec![2, 2]));
    }
}
