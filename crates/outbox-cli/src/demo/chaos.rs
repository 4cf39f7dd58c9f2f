//! `--chaos`: relay and consumer are killed in mid-work, again and again.

use std::{ops::Range, time::Duration};

use anyhow::Result;
use rand::RngExt as _;
use tokio::sync::oneshot;

use super::{
    consuming::Consuming,
    relaying::Relaying,
    tally::{Kills, Tally},
};

/// Between two kills, in milliseconds: about a second, and never in step with anything.
const PAUSE_MS: Range<u64> = 600..1_400;
/// The same when nobody could be killed, because none had done anything yet.
const RESPITE_MS: Range<u64> = 200..500;

/// Kills and restarts one of them about once a second until told that it is `over`: whichever was killed less often, of those that have
/// done something since their start. A service that is killed before it can begin shows nothing, and a broker may take seconds to give partitions
/// to a new member of a group.
///
/// # Errors
///
/// One of them had failed by itself, or cannot be started again.
///
/// # Cancellation
///
/// Leaves one of them dead.
pub(super) async fn run<'d>(
    mut relaying: Relaying<'d>,
    mut consuming: Consuming<'d>,
    tally: &Tally,
    mut over: oneshot::Receiver<()>,
) -> Result<(Relaying<'d>, Consuming<'d>)> {
    loop {
        if is_over(&mut over, millis(PAUSE_MS)).await {
            return Ok((relaying, consuming));
        }
        let victim = loop {
            if let Some(victim) = victim(tally.kills(), relaying.has_worked(), consuming.has_worked()) {
                break victim;
            }
            // Whoever has just begun may go on for a moment.
            if is_over(&mut over, millis(RESPITE_MS)).await {
                return Ok((relaying, consuming));
            }
        };
        match victim {
            Victim::Relay => {
                relaying = relaying.kill().await?;
                tally.killed_relay();
            }
            Victim::Consumer => {
                consuming = consuming.kill().await?;
                tally.killed_consumer();
            }
        }
    }
}

fn millis(range: Range<u64>) -> Duration {
    Duration::from_millis(rand::rng().random_range(range))
}

async fn is_over(over: &mut oneshot::Receiver<()>, pause: Duration) -> bool {
    // A dropped sender ends it too.
    tokio::time::timeout(pause, over).await.is_ok()
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Victim {
    Relay,
    Consumer,
}

fn victim(kills: Kills, relay_has_worked: bool, consumer_has_worked: bool) -> Option<Victim> {
    match (relay_has_worked, consumer_has_worked) {
        (true, true) if kills.relay > kills.consumer => Some(Victim::Consumer),
        (true, _) => Some(Victim::Relay),
        (false, true) => Some(Victim::Consumer),
        (false, false) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_was_killed_less_often_is_next_unless_it_has_not_begun() {
        let kills = |relay, consumer| Kills { relay, consumer };
        assert_eq!(victim(kills(0, 0), true, true), Some(Victim::Relay));
        assert_eq!(victim(kills(2, 1), true, true), Some(Victim::Consumer));
        assert_eq!(victim(kills(2, 1), true, false), Some(Victim::Relay));
        assert_eq!(victim(kills(0, 5), false, true), Some(Victim::Consumer));
        assert_eq!(victim(kills(0, 0), false, false), None);
    }
}
