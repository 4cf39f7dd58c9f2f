//! What becomes of messages that were handed over.

use super::engine::Engine;
use super::lanes::{Entry, Wait};
use super::publishing::InFlight;
use super::stats;
use crate::message::LaneKey;
use crate::ports::{DeadReason, LaneOrdering, Outcome, Reason, Ticket};

impl Engine {
    pub(super) fn on_outcomes(&mut self, outcomes: &mut Vec<(Ticket, Outcome)>) {
        if let Some(blocked) = self.publisher.blocked_news() {
            match &blocked {
                Some(reason) => tracing::warn!(reason = %reason, "the broker takes no messages at the moment"),
                None => tracing::info!("the broker takes messages again"),
            }
            self.shared.vitals(|vitals| vitals.broker = blocked.map(|reason| reason.0));
        }
        let mut published = 0;
        for (ticket, outcome) in outcomes.drain(..) {
            if let Outcome::SessionLost(reason) = &outcome {
                self.lose_session(reason);
                break;
            }
            let Some((landed, again)) = self.publisher.land(ticket, outcome == Outcome::Published) else { continue };
            for (shard, seq) in again.into_iter().flatten() {
                self.intake.rewind(shard, seq);
            }
            if outcome == Outcome::Published {
                if published == 0 {
                    stats::time("outbox_publish_seconds", landed.sent_at.elapsed());
                }
                published += 1;
            }
            self.landed(landed, outcome);
        }
        stats::add(&self.shared.counters.published, published);
    }

    fn landed(&mut self, landed: InFlight, outcome: Outcome) {
        let entry = landed.entry;
        let route = self.routes.get_mut(entry.route);
        route.in_flight = route.in_flight.saturating_sub(1);
        let lane = entry.lane;
        let waits = lane.is_some_and(|lane| self.lanes.closed_one(lane).is_some());
        if outcome == Outcome::Published {
            self.routes.get_mut(entry.route).failures = 0;
            self.open_bytes = self.open_bytes.saturating_sub(entry.message.size_bytes());
            self.settling.push(entry.message.position());
            if entry.alone {
                self.quarantine.remove(&(entry.message.shard, entry.message.seq));
            }
        } else {
            self.fell(&entry, outcome);
        }
        if let (true, Some(lane)) = (waits, lane) {
            self.go_on(lane);
        }
    }

    /// A message came back without being published.
    fn fell(&mut self, entry: &Entry, outcome: Outcome) {
        if let Some(block) = entry.lane.and_then(|lane| self.lanes.block_of(lane)) {
            // an earlier (or later) message of the key failed first: this one is read again and burns nothing
            block.rewind_from = block.rewind_from.min(entry.message.seq);
            self.forget(entry);
            return;
        }
        let place = (entry.message.shard, entry.message.seq);
        match outcome {
            Outcome::Retry(reason) => self.fail_attempt(entry, &reason),
            Outcome::Reject(reason) => self.reject(entry, &reason),
            Outcome::Quarantine(reason) if entry.alone => {
                self.quarantine.remove(&place);
                self.reject(entry, &reason);
            }
            Outcome::Quarantine(reason) => {
                tracing::warn!(reason = %reason, "an error names no single message, each is sent again alone");
                stats::add(&self.shared.counters.quarantined, 1);
                self.quarantine.insert(place);
                self.give_up(entry);
            }
            Outcome::RoutePaused(reason) => {
                self.forget(entry);
                self.routes.get_mut(entry.route).given_up.add(place.0, place.1, entry.lane);
                self.pause_route(entry.route, &reason);
            }
            Outcome::NotSent => {
                stats::add(&self.shared.counters.not_sent, 1);
                self.give_up(entry);
            }
            // both are taken care of before
            Outcome::Published | Outcome::SessionLost(_) => {}
        }
    }

    fn reject(&mut self, entry: &Entry, reason: &Reason) {
        let policy = self.config.policy(&self.routes.get(entry.route).name);
        self.open_bytes = self.open_bytes.saturating_sub(entry.message.size_bytes());
        let attempts = entry.message.attempts.saturating_add(1);
        self.bury(&entry.message, entry.lane, attempts, DeadReason::Rejected, reason, policy);
    }

    /// Drops a message from memory; it and what follows it in its key is read again.
    fn give_up(&mut self, entry: &Entry) {
        self.forget(entry);
        let (shard, seq) = (entry.message.shard, entry.message.seq);
        match entry.lane {
            Some(lane) => self.block(lane, Wait::Release, shard, seq, None),
            None => self.intake.rewind(shard, seq),
        }
    }

    /// Nothing of a lane is in flight any more: its block may end, or its deferred entries go on.
    pub(super) fn go_on(&mut self, key: LaneKey) {
        self.release_if_free(key);
        let mut paused = self.routes.waits_for(key);
        let sick = self.publisher.slots.waits_for(key);
        while let Some(lane) = self.lanes.map.get_mut(&key) {
            if lane.block.is_some() {
                return;
            }
            let Some(next) = lane.deferred.front() else { break };
            let fits = match self.ordering {
                LaneOrdering::OneInFlight => lane.open == 0,
                LaneOrdering::Pipelined => lane.open == 0 || lane.route == next.route,
            };
            if !fits {
                return;
            }
            let Some(entry) = lane.deferred.pop_front() else { break };
            let (shard, seq) = (entry.message.shard, entry.message.seq);
            // once one is given up, what follows it in the key waits with it, also what goes to another route
            paused = paused.or_else(|| self.routes.get(entry.route).is_waiting().then_some(entry.route));
            if let Some(route) = paused {
                self.routes.get_mut(route).given_up.add(shard, seq, Some(key));
                self.forget(&entry);
                continue;
            }
            if let Some(slot) = sick {
                self.publisher.slots.give_up(slot, shard, seq, Some(key));
                self.forget(&entry);
                continue;
            }
            lane.open += 1;
            lane.route = entry.route;
            self.routes.get_mut(entry.route).waiting.push_back(entry);
        }
        self.lanes.remove_if_empty(key);
    }
}
