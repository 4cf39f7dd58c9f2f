//! What goes wrong, when, and what operators do meanwhile.

use std::sync::Arc;
use std::time::Duration;

use outbox_core::ports::{LaneOrdering, Slot};
use tokio::time::{Instant, sleep, sleep_until};

use super::broker;
use super::relays;
use super::scenario::ELSEWHERE;
use super::world::{State, World};

/// Lets faults happen over the rough time of the run.
pub(super) async fn strike(world: Arc<World>) {
    let times = spread(&world, world.scenario.faults);
    for at in times {
        sleep_until(at).await;
        fault(&world).await;
    }
}

/// Lets an operator act over the rough time of the run.
pub(super) async fn operate(world: Arc<World>) {
    let times = spread(&world, world.scenario.operator_actions);
    for at in times {
        sleep_until(at).await;
        world.step(act);
    }
}

/// Ends everything that is wrong.
pub(super) fn heal(world: &Arc<World>) {
    world.step(|state| {
        let now = Instant::now();
        state.calm = true;
        state.database_down_until = None;
        state.broker.down_until = None;
        state.broker.blocked_until = None;
        state.broker.missing_until.clear();
        state.broker.stuck_until.clear();
        for control in state.relays.values_mut() {
            control.polls_left = None;
            control.paused_until = control.paused_until.map(|until| until.min(now));
            if let Some(waker) = control.waker.take() {
                waker.wake();
            }
        }
        state.note(|| "all faults end".to_owned());
    });
}

fn spread(world: &World, count: u64) -> Vec<Instant> {
    let rough = u64::try_from(world.scenario.rough.as_millis()).unwrap_or(1_000);
    let mut times: Vec<Instant> =
        (0..count).map(|_| Instant::now() + world.roll(|dice| dice.millis(0, rough))).collect();
    times.sort_unstable();
    times
}

async fn fault(world: &Arc<World>) {
    let everybody = world.lock().relays.len().max(1) as u64;
    let (choice, relay) = world.step(|state| {
        let numbers: Vec<usize> = state.relays.keys().copied().collect();
        let relay = if numbers.is_empty() { 0 } else { state.dice.pick(&numbers) };
        (state.dice.between(0, 13), relay)
    });
    match choice {
        0 => crash(world, relay),
        1 | 2 => crash_at_a_poll(world, relay),
        3 | 4 => pause(world, relay),
        5 => world.step(|state| {
            let time = state.dice.millis(10, 4_000);
            state.ledger.fault(everybody);
            state.database_down_until = Some(Instant::now() + time);
            state.note(|| format!("the database is down for {time:?}"));
        }),
        6 => world.step(|state| {
            let time = state.dice.millis(10, 4_000);
            state.ledger.fault(everybody);
            state.broker.down_until = Some(Instant::now() + time);
            state.note(|| format!("the broker is down for {time:?}"));
        }),
        7 => lose_a_session(world),
        8 => step_the_clock(world),
        9 => world.step(|state| {
            let mut topic = world.scenario.topics[state.dice.below(world.scenario.topics.len())].clone();
            if world.scenario.two_routes && state.dice.once_in(2) {
                topic = format!("{topic}.{ELSEWHERE}");
            }
            let time = state.dice.millis(10, 3_000);
            state.note(|| format!("topic {topic} is missing for {time:?}"));
            state.broker.missing_until.insert(topic, Instant::now() + time);
        }),
        10 => world.step(|state| {
            let partitions = world.scenario.partitions * 2 * world.scenario.topics.len() as u32;
            let slot = Slot(u32::try_from(state.dice.between(0, partitions.into())).unwrap_or(0));
            let time = state.dice.millis(10, 6_000);
            state.note(|| format!("{slot:?} is stuck for {time:?}"));
            state.broker.stuck_until.insert(slot, Instant::now() + time);
        }),
        11 if world.scenario.lanes == LaneOrdering::OneInFlight => {
            let time = world.roll(|dice| dice.millis(10, 6_000));
            broker::block(world, time);
        }
        _ => join_and_leave(world, relay),
    }
    end_of_an_outage(world).await;
}

/// A fault that lasts may still cause duplicates of what is handed over while it does.
async fn end_of_an_outage(world: &Arc<World>) {
    let ends = world.step(|state| {
        let outages = [state.database_down_until, state.broker.down_until];
        let pauses = state.relays.values().map(|control| control.paused_until);
        outages.into_iter().chain(pauses).flatten().max()
    });
    if let Some(end) = ends.filter(|&end| end > Instant::now()) {
        let world = world.clone();
        tokio::spawn(async move {
            sleep_until(end).await;
            world.step(|state| state.ledger.fault(0));
        });
    }
}

fn crash(world: &Arc<World>, relay: usize) {
    world.step(|state| {
        state.ledger.fault(1);
        state.crash(relay);
    });
}

fn crash_at_a_poll(world: &Arc<World>, relay: usize) {
    world.step(|state| {
        let polls = state.dice.between(1, 60);
        if let Some(control) = state.relays.get_mut(&relay) {
            control.polls_left = Some(polls);
        }
    });
}

fn pause(world: &Arc<World>, relay: usize) {
    world.step(|state| {
        let lease = u64::try_from(world.scenario.relay.lease_duration.as_millis()).unwrap_or(1_000);
        let time = state.dice.millis(10, lease * 3);
        state.ledger.fault(1);
        if let Some(control) = state.relays.get_mut(&relay) {
            control.paused_until = Some(Instant::now() + time);
        }
        state.note(|| format!("relay {relay} is paused for {time:?}"));
    });
}

fn lose_a_session(world: &Arc<World>) {
    let session = world.step(|state| {
        let sessions = state.broker.sessions();
        (!sessions.is_empty()).then(|| state.dice.pick(&sessions))
    });
    if let Some(session) = session {
        broker::abandon(world, session, Some("the connection broke"));
    }
}

fn step_the_clock(world: &Arc<World>) {
    world.step(|state| {
        let by = i64::try_from(state.dice.between(0, 20_000_000)).unwrap_or(0) - 10_000_000;
        state.ledger.clock_stepped();
        state.step_clock(by);
        state.note(|| format!("the database's clock steps by {} ms", by / 1000));
    });
}

fn join_and_leave(world: &Arc<World>, relay: usize) {
    let count = world.lock().staying();
    if count < 5 && world.roll(|dice| dice.once_in(2)) {
        relays::start(world);
    } else if count > 1 {
        world.step(|state| {
            state.note(|| format!("relay {relay} is asked to leave"));
            if let Some(control) = state.relays.get_mut(&relay) {
                drop(control.leave.take());
            }
        });
    }
}

/// One act of an operator.
fn act(state: &mut State) {
    let dead = state.database.dead_letters(0, 100);
    let parked: Vec<_> = state.database.parked().cloned().collect();
    let keys: Vec<_> = state.ledger.records().iter().filter_map(|record| record.key.clone()).collect();
    match state.dice.between(0, 5) {
        0 | 1 if !dead.is_empty() => {
            let id = dead[state.dice.below(dead.len())].position.id;
            state.replay(id);
        }
        2 if !dead.is_empty() => {
            let id = dead[state.dice.below(dead.len())].position.id;
            state.discard(id);
        }
        3 if !parked.is_empty() => {
            let key = parked[state.dice.below(parked.len())].clone();
            state.unpark(&key);
        }
        _ if !keys.is_empty() => {
            let key = keys[state.dice.below(keys.len())].clone();
            state.note(|| format!("an operator parks {key:?}"));
            state.database.park(key);
        }
        _ => {}
    }
}

/// Before the end an operator lets some parked keys go, so that the run also shows that they drain.
pub(super) async fn tidy(world: &Arc<World>) {
    sleep(Duration::from_millis(200)).await;
    world.step(|state| {
        let parked: Vec<_> = state.database.parked().cloned().collect();
        for key in parked {
            if !state.dice.once_in(4) {
                state.unpark(&key);
            }
        }
    });
}
