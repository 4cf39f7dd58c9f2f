use std::collections::VecDeque;

use rustc_hash::FxHashMap;
use tokio::time::Instant;

use super::given_up::GivenUp;
use super::lanes::Entry;
use crate::message::LaneKey;
use crate::ports::{Reason, RouteName};

/// A route's number within this run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct RouteId(u32);

impl RouteId {
    /// The route of a lane that has none yet.
    pub(super) const NONE: Self = Self(u32::MAX);
}

#[derive(Debug)]
pub(super) struct Route {
    pub(super) name: RouteName,
    pub(super) status: RouteStatus,
    /// Entries that wait for the route to open.
    pub(super) waiting: VecDeque<Entry>,
    /// Entries handed to the session.
    pub(super) in_flight: usize,
    /// Failures in a row, for the backoff; 0 again at a confirm.
    pub(super) failures: u32,
    /// What waits for the route to go on.
    pub(super) given_up: GivenUp,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum RouteStatus {
    /// Not looked up in this session.
    Unopened,
    Opening,
    Open,
    Paused {
        until: Instant,
        reason: Reason,
    },
}

/// All routes seen so far. Few: topics, or exchanges with routing keys.
#[derive(Debug, Default)]
pub(super) struct Routes {
    all: Vec<Route>,
    by_name: FxHashMap<RouteName, RouteId>,
    last: Option<(RouteName, RouteId)>,
    paused: usize,
}

impl Routes {
    /// The number of a route.
    pub(super) fn id(&mut self, name: &RouteName) -> RouteId {
        if let Some((last, id)) = &self.last
            && std::sync::Arc::ptr_eq(last, name)
        {
            return *id;
        }
        let next = RouteId(u32::try_from(self.all.len()).unwrap_or(u32::MAX - 1));
        let id = *self.by_name.entry(name.clone()).or_insert(next);
        if id == next && self.all.len() == id.0 as usize {
            self.all.push(Route::new(name.clone()));
        }
        self.last = Some((name.clone(), id));
        id
    }

    pub(super) fn get(&self, id: RouteId) -> &Route {
        &self.all[id.0 as usize]
    }

    pub(super) fn get_mut(&mut self, id: RouteId) -> &mut Route {
        &mut self.all[id.0 as usize]
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = (RouteId, &mut Route)> {
        (0..).map(RouteId).zip(&mut self.all)
    }

    pub(super) fn paused(&self) -> usize {
        self.paused
    }

    /// The paused route that a key waits for.
    pub(super) fn waits_for(&self, lane: LaneKey) -> Option<RouteId> {
        if self.paused == 0 {
            return None;
        }
        (0..).map(RouteId).zip(&self.all).find(|(_, route)| route.given_up.holds(lane)).map(|(id, _)| id)
    }

    pub(super) fn set_status(&mut self, id: RouteId, status: RouteStatus) {
        let route = &mut self.all[id.0 as usize];
        let was = route.is_waiting();
        route.status = status;
        match (was, route.is_waiting()) {
            (false, true) => self.paused += 1,
            (true, false) => self.paused -= 1,
            _ => {}
        }
    }

    /// A new session knows no route. Paused ones stay paused; nothing is queued or in flight.
    pub(super) fn forget_session(&mut self) {
        for route in &mut self.all {
            route.waiting.clear();
            route.in_flight = 0;
            match route.status {
                RouteStatus::Open => route.status = RouteStatus::Unopened,
                RouteStatus::Opening => {
                    // a paused route that was being tried again still owes its rewinds
                    route.status = RouteStatus::Unopened;
                    if !route.given_up.is_empty() {
                        route.status =
                            RouteStatus::Paused { until: Instant::now(), reason: Reason::new("the session was lost") };
                    }
                }
                _ => {}
            }
        }
        self.paused = self.all.iter().filter(|route| route.is_waiting()).count();
    }

    /// The next time a paused route may be tried.
    pub(super) fn next_try(&self) -> Option<Instant> {
        if self.paused == 0 {
            return None;
        }
        self.all
            .iter()
            .filter_map(|route| match route.status {
                RouteStatus::Paused { until, .. } if route.in_flight == 0 => Some(until),
                _ => None,
            })
            .min()
    }
}

impl Route {
    fn new(name: RouteName) -> Self {
        Self {
            name,
            status: RouteStatus::Unopened,
            waiting: VecDeque::new(),
            in_flight: 0,
            failures: 0,
            given_up: GivenUp::default(),
        }
    }

    /// Whether messages of the route are given up at the moment: it is paused, or is being tried again after a pause.
    pub(super) fn is_waiting(&self) -> bool {
        match self.status {
            RouteStatus::Paused { .. } => true,
            RouteStatus::Opening => !self.given_up.is_empty(),
            _ => false,
        }
    }
}
