//! What only RabbitMQ does to its publishers.

use std::{
    thread,
    time::{Duration, Instant},
};

use anyhow::Result;
use xtask::deadline;

use super::{Injected, Stage, now_ms};
use crate::{
    broker::QUEUE,
    events::{AGGREGATE_TYPE, BURST, KEYS, STRAY_TYPE, STRAYS},
    plan::Step,
    process::RoleProcess,
    surroundings::RelayTally,
    writers,
};

/// How long a relay's health may take to say what is wrong.
const HEALTH_LIMIT: Duration = Duration::from_secs(20);
/// Between two looks at the relays' health.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);
/// How long a fault lasts once the relays have noticed it.
const LASTS: Duration = Duration::from_secs(2);
/// What had been handed to the broker before it blocked may be confirmed a moment later.
const LATE_CONFIRMS: Duration = Duration::from_millis(500);
/// Until everything has arrived that waited for the end of a fault.
const RECOVERY_LIMIT: Duration = Duration::from_secs(60);
/// Share of memory at which the alarm goes off by default.
const DEFAULT_WATERMARK: &str = "0.4";
/// At the least this many events are sent at a queue that overflows: several for each key, as a key has one in flight.
const OVERFLOW_EVENTS: u64 = 10 * KEYS as u64;
/// Seconds that the slow consumer needs for such a burst: less than a message waits for its last attempt.
const OVERFLOW_SECONDS: u64 = 4;
/// Part of the burst that the queue takes at once.
const OVERFLOW_PART: u64 = 20;
/// Name of the policy that limits the queue.
const POLICY: &str = "narrow";

impl Stage<'_> {
    /// Sets the memory alarm, lets a burst wait behind it, and clears it.
    pub(super) fn alarm(&mut self, step: Step) -> Result<Injected> {
        self.caught_up()?;
        let begun_at_ms = now_ms();
        self.servers.rabbitmqctl(&["set_vm_memory_high_watermark", "absolute", "1"])?;
        let blocked = self.blocked();
        self.servers.rabbitmqctl(&["set_vm_memory_high_watermark", DEFAULT_WATERMARK])?;
        let (health, wrong) = blocked?;
        let possible_at_ms = now_ms();
        self.caught_up()?;
        Ok(Injected { health, wrong, ..Injected::of_server(step, begun_at_ms, possible_at_ms) })
    }

    /// What the relays do while the broker takes nothing: nothing, and they say so.
    fn blocked(&mut self) -> Result<(Option<String>, Vec<String>)> {
        let retried = self.sum(|relay| relay.retried);
        self.commit_burst(self.surroundings.burst)?;
        let health = self.wait_for_health(|reason| reason.contains("memory") || reason.contains("block"), true)?;
        thread::sleep(LATE_CONFIRMS);
        let published = self.sum(|relay| relay.published);
        self.last(LASTS)?;
        let mut wrong = Vec::new();
        if health.is_none() {
            wrong.push("the health of a relay did not speak of the alarm".to_owned());
        }
        let published_meanwhile = self.sum(|relay| relay.published).saturating_sub(published);
        if published_meanwhile > 0 {
            wrong.push(format!("{published_meanwhile} messages count as published during the alarm"));
        }
        let retried = self.sum(|relay| relay.retried).saturating_sub(retried);
        self.no_attempt_burned(retried, &mut wrong)?;
        Ok((health, wrong))
    }

    /// Takes the binding of the strays away, lets a burst with strays come, and puts it back.
    pub(super) fn unroutable(&mut self, step: Step) -> Result<Injected> {
        self.caught_up()?;
        let retried = self.sum(|relay| relay.retried);
        let begun_at_ms = now_ms();
        self.runtime.block_on(self.broker.queue()?.unbind_strays())?;
        let strays = self.commit_burst(self.surroundings.burst)? * STRAYS as u64 / KEYS as u64;
        let is_reason = |reason: &str| reason.contains(STRAY_TYPE) && reason.contains("paused");
        let health = self.wait_for_health(is_reason, false)?;
        deadline::wait("everything that finds a queue has arrived", RECOVERY_LIMIT, || {
            self.check()?;
            let left = self.observe(async |conn| conn.pending(AGGREGATE_TYPE, BURST).await)?;
            Ok((left == 0).then_some(()))
        })?;
        self.last(LASTS)?;
        let mut wrong = Vec::new();
        if health.is_none() {
            wrong.push("no relay's health spoke of the paused route".to_owned());
        }
        let waiting = self.observe(async |conn| conn.pending(STRAY_TYPE, BURST).await)?;
        if waiting != strays {
            wrong.push(format!("{waiting} of {strays} unroutable messages wait: the others count as published"));
        }
        let retried = self.sum(|relay| relay.retried).saturating_sub(retried);
        self.no_attempt_burned(retried, &mut wrong)?;
        self.runtime.block_on(self.broker.queue()?.bind_strays())?;
        let possible_at_ms = now_ms();
        self.caught_up()?;
        Ok(Injected { health, wrong, ..Injected::of_server(step, begun_at_ms, possible_at_ms) })
    }

    /// Limits the queue and slows its consumer down, so that a burst is refused in part until it has drained.
    pub(super) fn overflow(&mut self, step: Step) -> Result<Injected> {
        self.caught_up()?;
        let retried = self.sum(|relay| relay.retried);
        let size = self.surroundings.burst.max(OVERFLOW_EVENTS);
        let limit = format!("{{\"max-length\": {}}}", size / OVERFLOW_PART);
        let begun_at_ms = now_ms();
        let queue = format!("^{}$", QUEUE.replace('.', "\\."));
        self.servers.rabbitmqctl(&["set_policy", POLICY, &queue, &limit, "--apply-to", "queues"])?;
        self.broker.queue()?.slow_down(Some(size / OVERFLOW_SECONDS));
        self.commit_burst(size)?;
        let refused = deadline::wait("the queue refuses messages", HEALTH_LIMIT, || {
            self.check()?;
            let refused = self.sum(|relay| relay.retried).saturating_sub(retried);
            Ok((refused > 0).then_some(()))
        });
        let possible_at_ms = now_ms();
        self.caught_up()?;
        self.broker.queue()?.slow_down(None);
        // A queue that still refuses when its limit goes would refuse for ever.
        self.runtime.block_on(self.broker.queue()?.wait_until_empty(RECOVERY_LIMIT))?;
        self.servers.rabbitmqctl(&["clear_policy", POLICY])?;
        let wrong = refused.err().map(|error| format!("{error:#}")).into_iter().collect();
        let refused = self.sum(|relay| relay.retried).saturating_sub(retried);
        let health = Some(format!("{refused} messages were refused and sent again"));
        Ok(Injected { health, wrong, ..Injected::of_server(step, begun_at_ms, possible_at_ms) })
    }

    /// Waits until everything that is in the outbox now has arrived, what earlier faults made the relays send again included.
    fn caught_up(&mut self) -> Result<()> {
        let newest = self.observe(async |conn| conn.newest().await)?;
        deadline::wait("everything has arrived", RECOVERY_LIMIT, || {
            self.check()?;
            let left = self.observe(async |conn| conn.pending_up_to(newest).await)?;
            Ok((left == 0).then_some(()))
        })
    }

    fn no_attempt_burned(&self, retried: u64, wrong: &mut Vec<String>) -> Result<()> {
        let attempted = self.observe(async |conn| conn.attempted().await)?;
        if retried > 0 || attempted > 0 {
            wrong.push(format!("{retried} attempts were burned, {attempted} messages have a failed one"));
        }
        Ok(())
    }

    /// Waits until a reason of a relay's health, or of each relay's, is as wanted; one such reason.
    fn wait_for_health(&mut self, wanted: impl Fn(&str) -> bool, of_all: bool) -> Result<Option<String>> {
        let since = Instant::now();
        while since.elapsed() < HEALTH_LIMIT {
            self.check()?;
            let said: Vec<Option<String>> = self.relays.iter().map(|relay| reason(relay, &wanted)).collect();
            if said.iter().any(Option::is_some) && (!of_all || said.iter().all(Option::is_some)) {
                return Ok(said.into_iter().flatten().next());
            }
            self.last(LOOK_INTERVAL)?;
        }
        Ok(None)
    }

    /// Commits a burst and returns at once.
    fn commit_burst(&mut self, size: u64) -> Result<u64> {
        let keys = self.surroundings.keys.clone();
        let committed = self.observe(async |conn| writers::burst(conn, &keys, size).await)?;
        // What is over the usual size comes on top of the writers' events.
        self.pace.add(committed.min(self.surroundings.burst));
        Ok(committed)
    }

    fn last(&mut self, time: Duration) -> Result<()> {
        thread::sleep(time);
        xtask::interrupt::check()?;
        self.check()
    }

    fn sum(&self, number: impl Fn(RelayTally) -> u64) -> u64 {
        self.relays.iter().map(|relay| number(relay.tally())).sum()
    }
}

fn reason(relay: &RoleProcess, wanted: &impl Fn(&str) -> bool) -> Option<String> {
    relay.tally::<RelayTally>().health.into_iter().find(|reason| wanted(reason))
}
