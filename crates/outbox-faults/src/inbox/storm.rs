use std::time::{Duration, Instant};

use anyhow::Result;
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};

use super::stage::Stage;

/// Between two changes of the group.
const INTERVAL: Duration = Duration::from_secs(1);
/// Consumers at the least and at the most.
const CONSUMERS: std::ops::RangeInclusive<usize> = 1..=5;
/// Of those that leave, the share that is killed. The group waits for a killed one until its session is over, so more of them would make the
/// storm a calm.
const KILLED: f64 = 0.15;
/// Consumers after the storm.
const AFTERWARDS: usize = 2;

/// How often the group changed.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Storm {
    pub(super) joined: usize,
    pub(super) left: usize,
    pub(super) killed: usize,
    /// Messages that were applied when it ended.
    pub(super) applied: u64,
}

/// Lets consumers join and leave every second, some of them by `kill -9`.
pub(super) fn rage(stage: &mut Stage<'_>, time: Duration, seed: u64) -> Result<Storm> {
    let mut rng = StdRng::seed_from_u64(seed);
    let (mut storm, since) = (Storm::default(), Instant::now());
    while since.elapsed() < time {
        let consumers = stage.fleet.len();
        let joins = consumers <= *CONSUMERS.start() || (consumers < *CONSUMERS.end() && rng.random());
        if joins {
            stage.fleet.join()?;
            storm.joined += 1;
        } else if rng.random_bool(KILLED) {
            stage.fleet.kill(rng.random_range(0..consumers))?;
            storm.killed += 1;
        } else {
            stage.fleet.leave(rng.random_range(0..consumers))?;
            storm.left += 1;
        }
        stage.quiet(INTERVAL)?;
    }
    storm.applied = stage.applied()?;
    while stage.fleet.len() < AFTERWARDS {
        stage.fleet.join()?;
        storm.joined += 1;
    }
    Ok(storm)
}
