//! What becomes of the session, its routes and the shards: everything that concerns many messages at once.

use tokio::time::Instant;

use super::defect::has_defect;
use super::engine::Engine;
use super::lanes::{Entry, Wait};
use super::ownership::{OwnershipEvent, ParkedLoaded};
use super::publishing::SessionEvent;
use super::routes::{RouteId, RouteStatus};
use super::stats;
use crate::message::LaneKey;
use crate::ports::{Outcome, Reason, ShardId};

impl Engine {
    pub(super) fn on_session(&mut self, event: SessionEvent) {
        match event {
            SessionEvent::Connected(Ok((session, outcomes))) => {
                stats::add(&self.shared.counters.sessions, 1);
                self.shared.vitals(|vitals| vitals.broker = None);
                self.publisher.connected(session, outcomes);
                self.intake.wake();
            }
            SessionEvent::Connected(Err(error)) => {
                let text = match std::error::Error::source(&error) {
                    Some(source) => format!("{error}: {source}"),
                    None => error.to_string(),
                };
                tracing::warn!(error = text, "the broker cannot be reached");
                self.shared.vitals(|vitals| vitals.broker = Some(text.into()));
                self.retry_session();
            }
            SessionEvent::Sent(session) => self.publisher.sent(session),
            SessionEvent::Closed => {}
        }
    }

    fn retry_session(&mut self) {
        let wait = self.config.reconnect.delay(self.publisher.count_failure(), &mut self.rng);
        self.publisher.retry_at(Instant::now() + wait);
    }

    /// Destroys the session. Everything that was open is read again, and sent again through a new session.
    pub(super) fn lose_session(&mut self, reason: &Reason) {
        if self.publisher.is_up() {
            tracing::warn!(reason = %reason, in_flight = self.known.len(), "the session with the broker is lost");
            stats::add(&self.shared.counters.lost_sessions, 1);
            self.shared.vitals(|vitals| vitals.broker = Some(reason.0.clone()));
        }
        let mut open: Vec<Entry> = Vec::new();
        let given_up = self.publisher.slots.drain(|entry| open.push(entry));
        for entry in self.publisher.lose(Instant::now()) {
            self.ambiguous.insert((entry.message.shard, entry.message.seq));
            open.push(entry);
        }
        self.read_again(open, given_up);
        self.retry_session();
    }

    /// Gives up these entries and all that wait for a session: everything is read again. Nothing is in flight any more.
    fn read_again(&mut self, mut open: Vec<Entry>, given_up: Vec<(ShardId, i64)>) {
        for (_, route) in self.routes.iter_mut() {
            open.extend(route.waiting.drain(..));
        }
        for lane in self.lanes.map.values_mut() {
            open.extend(lane.deferred.drain(..));
        }
        for entry in open {
            self.forget(&entry);
            self.intake.rewind(entry.message.shard, entry.message.seq);
        }
        for (shard, seq) in given_up {
            self.intake.rewind(shard, seq);
        }
        self.routes.forget_session();
        for block in self.lanes.session_lost() {
            self.intake.rewind(block.shard, block.rewind_from);
        }
    }

    pub(super) fn on_route_opened(&mut self, id: RouteId, result: Result<(), Outcome>) {
        match result {
            Ok(()) => {
                self.routes.set_status(id, RouteStatus::Open);
                let route = self.routes.get_mut(id);
                let (name, again) = (route.name.clone(), route.given_up.take());
                for (shard, seq) in again {
                    self.intake.rewind(shard, seq);
                }
                self.shared.vitals(|vitals| drop(vitals.paused_routes.remove(&name)));
            }
            Err(Outcome::SessionLost(reason)) => self.lose_session(&reason),
            Err(Outcome::RoutePaused(reason) | Outcome::Retry(reason) | Outcome::Reject(reason)) => {
                self.pause_route(id, &reason);
            }
            Err(_) => self.pause_route(id, &Reason::new("the route cannot be opened")),
        }
    }

    /// A route takes no messages at the moment. What waits for it is given up until it goes on; nothing burns an attempt.
    pub(super) fn pause_route(&mut self, id: RouteId, reason: &Reason) {
        let route = self.routes.get_mut(id);
        if matches!(route.status, RouteStatus::Paused { .. }) {
            return;
        }
        route.failures = route.failures.saturating_add(1);
        let (failures, name) = (route.failures, route.name.clone());
        let mut open: Vec<Entry> = route.waiting.drain(..).collect();
        route.given_up.merge(self.publisher.slots.purge_route(id, |entry| open.push(entry)));
        let until = Instant::now() + self.config.reconnect.delay(failures, &mut self.rng);
        tracing::warn!(route = %name, reason = %reason, "the route is paused");
        self.routes.set_status(id, RouteStatus::Paused { until, reason: reason.clone() });
        self.shared.vitals(|vitals| drop(vitals.paused_routes.insert(name, reason.0.clone())));
        for entry in &open {
            self.routes.get_mut(id).given_up.add(entry.message.shard, entry.message.seq, entry.lane);
            self.forget(entry);
        }
        for lane in open.iter().filter_map(|entry| entry.lane) {
            if self.lanes.closed_one(lane).is_some() {
                self.go_on(lane);
            }
        }
    }

    /// Finds slots that confirm nothing while they hold their share of the window, and gives up what waits for them, so that
    /// the rest of the window serves the others.
    pub(super) fn spare_the_window(&mut self, now: Instant) {
        let mut open = Vec::new();
        self.publisher.slots.find_sick(now, |entry| open.push(entry));
        open.extend(self.publisher.overflow());
        for entry in &open {
            self.forget(entry);
        }
        for lane in open.iter().filter_map(|entry| entry.lane) {
            self.give_up_deferred(lane);
            if self.lanes.closed_one(lane).is_some() {
                self.go_on(lane);
            }
        }
    }

    /// What of a key was put aside behind a message that was given up for a sick slot waits with it: the slot may recover by the
    /// confirm of an earlier message of the same key, which would let it go first.
    fn give_up_deferred(&mut self, key: LaneKey) {
        let Some(slot) = self.publisher.slots.waits_for(key) else { return };
        let deferred = self.lanes.map.get_mut(&key).map(|lane| std::mem::take(&mut lane.deferred));
        for entry in deferred.into_iter().flatten() {
            self.publisher.slots.give_up(slot, entry.message.shard, entry.message.seq, Some(key));
            self.forget(&entry);
        }
    }

    pub(super) fn on_ownership(&mut self, event: OwnershipEvent) {
        match event {
            OwnershipEvent::Beat { sent_at, result: Ok(beat) } => {
                self.database_is_well();
                let accepting = self.accepting(Instant::now());
                for shard in self.ownership.beat(sent_at, &beat, accepting).lost {
                    self.lose_shard(shard);
                }
            }
            OwnershipEvent::Beat { result: Err(error), .. } => self.database_failed("the heartbeat failed", &error),
            OwnershipEvent::Acquired { sent_at, result: Ok(leases) } => {
                tracing::debug!(shards = leases.len(), "shards acquired");
                self.ownership.acquired(sent_at, &leases);
            }
            OwnershipEvent::Acquired { result: Err(error), .. } => {
                self.database_failed("acquiring shards failed", &error);
            }
            OwnershipEvent::Released(Ok(())) => {}
            OwnershipEvent::Released(Err(error)) => self.database_failed("releasing shards failed", &error),
        }
    }

    /// Stops with the shards whose lease has run out by the relay's own count, before the database can say so.
    pub(super) fn expire_leases(&mut self, now: Instant) {
        if has_defect!(self.config, PublishPastLease) {
            return;
        }
        for shard in self.ownership.take_expired(now) {
            self.lose_shard(shard);
        }
    }

    /// The shard is another's, or may be at any moment.
    pub(super) fn lose_shard(&mut self, shard: ShardId) {
        tracing::warn!(shard = shard.0, "the shard is lost");
        stats::add(&self.shared.counters.lost_leases, 1);
        self.ownership.remove(shard);
        self.leave_shard(shard);
    }

    /// Forgets a shard. What is still in flight of it dies with the session: nothing else can take it back.
    pub(super) fn leave_shard(&mut self, shard: ShardId) {
        if self.known.of_shard(shard) > 0 {
            if self.publisher.is_up() {
                self.lose_session(&Reason::new("a shard was lost with messages in flight"));
            } else {
                // a read that began before the session was lost brought them: they wait for the next session
                self.read_again(Vec::new(), Vec::new());
            }
        }
        for position in self.failing.forget_shard(shard) {
            self.known.remove(position.shard, position.seq);
        }
        self.lanes.forget_shard(shard);
        self.parked.retain(|_, (parked, _)| *parked != shard);
        self.quarantine.retain(|(other, _)| *other != shard);
        self.suspects.retain(|(other, _)| *other != shard);
        self.ambiguous.retain(|(other, _)| *other != shard);
    }

    pub(super) fn on_parked_loaded(&mut self, loaded: ParkedLoaded) {
        let ParkedLoaded { load, shards, result } = loaded;
        let keys = match result {
            Ok(keys) => keys,
            Err(error) => {
                self.database_failed("reading the parked keys failed", &error);
                let wait = self.config.reconnect.delay(1, &mut self.rng);
                return self.ownership.load_failed(&shards, wait);
            }
        };
        self.parked.retain(|_, (shard, since)| !shards.contains(shard) || *since >= load);
        for key in keys {
            let is_new = self.parked.insert(key.lane, (key.shard, load)).is_none();
            if is_new && self.lanes.map.contains_key(&key.lane) {
                // what is not handed over yet waits too; it is given up here and read again when the key goes on
                self.block(key.lane, Wait::Release, key.shard, i64::MAX, None);
            }
        }
        self.ownership.activate(&shards);
        self.derive_retries_again(|shard| shards.contains(&shard));
        for shard in shards {
            self.intake.rewind(shard, 0);
        }
    }

    /// Lets keys in retry be derived from the database again.
    pub(super) fn derive_retries_again(&mut self, of: impl Fn(ShardId) -> bool) {
        for lane in self.lanes.in_retry(of) {
            if let Some(block) = self.lanes.block_of(lane) {
                block.wait = Wait::Release;
            }
            self.release_if_free(lane);
        }
    }
}
