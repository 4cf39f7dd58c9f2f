use crate::ports::ShardId;

/// What the next read must look at, in one statement at one snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Plan {
    /// Rows past the floors.
    pub hot: Vec<HotRange>,
    /// Ranges below the floors.
    pub late: Vec<LateRange>,
}

/// `seq > after`, ascending, at most `limit` rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HotRange {
    /// The shard.
    pub shard: ShardId,
    /// The floor.
    pub after: i64,
    /// Rows.
    pub limit: usize,
}

/// `after < seq <= upto`; all rows of it when `watch` is `None` or the snapshot sees that transaction as ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct LateRange {
    /// The shard.
    pub shard: ShardId,
    /// Exclusive.
    pub after: i64,
    /// Inclusive.
    pub upto: i64,
    /// The transaction whose end makes the range worth reading; `None`: always.
    pub watch: Option<u64>,
}

/// Shares `rows` among shards: those whose last read was cut (`hungry`) split what the others leave, so that one hot
/// shard can fill the whole read and no busy shard starves another. Every shard gets at least one row.
pub fn share_rows(hungry: impl ExactSizeIterator<Item = bool> + Clone, rows: usize) -> Vec<usize> {
    /// Rows that a shard gets whose last read was not cut: enough to notice that it woke up.
    const QUIET_ROWS: usize = 8;
    let shards = hungry.len().max(1);
    let busy = hungry.clone().filter(|&hungry| hungry).count();
    if busy == 0 {
        return vec![(rows / shards).max(1); hungry.len()];
    }
    let quiet_rows = QUIET_ROWS.min((rows / shards).max(1));
    let busy_rows = (rows.saturating_sub(quiet_rows * (shards - busy)) / busy).max(1);
    hungry.map(|hungry| if hungry { busy_rows } else { quiet_rows }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_hungry_shard_gets_almost_all_rows() {
        let mut hungry = [false; 64];
        hungry[3] = true;
        let shares = share_rows(hungry.iter().copied(), 2000);
        assert_eq!(shares[3], 2000 - 63 * 8);
        assert_eq!(shares[4], 8);
    }

    #[test]
    fn equally_hungry_shards_share_equally_and_nobody_gets_nothing() {
        assert_eq!(share_rows([true; 64].into_iter(), 2000), vec![31; 64]);
        assert_eq!(share_rows([false; 4].into_iter(), 2), vec![1; 4]);
    }
}
