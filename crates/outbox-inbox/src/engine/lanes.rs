use std::collections::VecDeque;

use super::work::Work;
use crate::InboxConfig;

/// What waits for each worker. Messages of one key always wait for the same one, in order.
#[derive(Debug)]
pub(super) struct Lanes {
    lanes: Vec<Lane>,
    pub(super) waiting_bytes: usize,
}

#[derive(Debug)]
struct Lane {
    queue: VecDeque<Work>,
    is_busy: bool,
    /// Messages of the next batch at most.
    limit: usize,
}

impl Lanes {
    pub(super) fn new(config: &InboxConfig) -> Self {
        let lane = || Lane { queue: VecDeque::new(), is_busy: false, limit: config.batch_size };
        Self { lanes: std::iter::repeat_with(lane).take(config.workers).collect(), waiting_bytes: 0 }
    }

    pub(super) fn push(&mut self, work: Work) {
        let count = self.lanes.len();
        let lane = match work.message.key() {
            Some(key) => usize::try_from(key.digest() % count as u64).unwrap_or(0),
            None => (0..count).min_by_key(|lane| self.lanes[*lane].queue.len()).unwrap_or(0),
        };
        self.waiting_bytes += work.size_bytes;
        self.lanes[lane].queue.push_back(work);
    }

    /// The batches that can begin now, with their workers.
    pub(super) fn begin(&mut self, config: &InboxConfig) -> Vec<(usize, Vec<Work>)> {
        let mut batches = Vec::new();
        for (worker, lane) in self.lanes.iter_mut().enumerate() {
            if lane.is_busy || lane.queue.is_empty() {
                continue;
            }
            let (mut batch, mut bytes) = (Vec::new(), 0);
            while batch.len() < lane.limit {
                let Some(next) = lane.queue.front() else { break };
                if !batch.is_empty() && bytes + next.size_bytes > config.batch_bytes {
                    break;
                }
                bytes += next.size_bytes;
                batch.extend(lane.queue.pop_front());
            }
            self.waiting_bytes -= bytes;
            lane.is_busy = true;
            batches.push((worker, batch));
        }
        batches
    }

    /// A worker is free again; its next batch is smaller when this one did not go through in one transaction.
    pub(super) fn finished(&mut self, worker: usize, messages: usize, in_one: bool, config: &InboxConfig) {
        let lane = &mut self.lanes[worker];
        lane.is_busy = false;
        lane.limit = if in_one {
            (lane.limit + lane.limit.div_ceil(4)).min(config.batch_size)
        } else {
            (messages.min(lane.limit) / 2).max(1)
        };
    }

    /// Forgets what waits of assignments that are gone.
    pub(super) fn forget_gone(&mut self) {
        for lane in &mut self.lanes {
            lane.queue.retain(|work| {
                let stays = !work.assignment.is_gone();
                if !stays {
                    self.waiting_bytes -= work.size_bytes;
                }
                stays
            });
        }
    }

    /// Forgets all that waits.
    pub(super) fn clear(&mut self) {
        self.lanes.iter_mut().for_each(|lane| lane.queue.clear());
        self.waiting_bytes = 0;
    }
}
