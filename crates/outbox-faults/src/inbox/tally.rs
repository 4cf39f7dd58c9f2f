use serde::{Deserialize, Serialize};

/// What a consumer says of itself, one line of JSON at a time.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct ConsumerTally {
    pub(super) received: u64,
    pub(super) processed: u64,
    pub(super) duplicates: u64,
    pub(super) held: u64,
    pub(super) failed: u64,
    pub(super) dead: u64,
    pub(super) rolled_back: u64,
    pub(super) transactions: u64,
    pub(super) lost_claims: u64,
    pub(super) lost_partitions: u64,
    /// Partitions or queues that it has now.
    pub(super) partitions: u64,
    /// Whether it has said anything at all.
    pub(super) is_alive: bool,
}

impl ConsumerTally {
    /// Adds what another consumer did.
    pub(super) fn add(&mut self, other: &Self) {
        self.received += other.received;
        self.processed += other.processed;
        self.duplicates += other.duplicates;
        self.held += other.held;
        self.failed += other.failed;
        self.dead += other.dead;
        self.rolled_back += other.rolled_back;
        self.transactions += other.transactions;
        self.lost_claims += other.lost_claims;
        self.lost_partitions += other.lost_partitions;
    }
}
