use std::sync::Arc;
use std::time::Duration;

use outbox_core::ports::{LaneOrdering, Outcome, Reason, Slot, Ticket};
use tokio::time::{Instant, sleep};

use super::{Flight, Line};
use crate::simulation::Defect;
use crate::simulation::ledger::{Ledger, Nature};
use crate::simulation::scenario::Scenario;
use crate::simulation::world::{State, World};

/// How often something that is held up looks whether it may go on.
const LOOK_AGAIN: Duration = Duration::from_millis(200);

/// Carries what is under way to one partition, batch after batch, until nothing is left or the session is gone.
pub(super) async fn deliver(world: Arc<World>, session: u64, slot: Slot) {
    loop {
        let there = world.roll(latency);
        sleep(there).await;
        match world.step(|state| arrive(state, &world.scenario, session, slot)) {
            Arrival::Gone => return,
            Arrival::Wait(time) => sleep(time).await,
            Arrival::SessionLost => return abandon(&world, session, Some("the connection broke")),
            Arrival::Answered { reports, then_lost } => {
                let back = world.roll(latency);
                sleep(back).await;
                let goes_on = world.step(|state| report(state, session, slot, reports));
                if then_lost {
                    return abandon(&world, session, Some("the connection broke after an answer"));
                }
                if !goes_on {
                    return;
                }
            }
        }
    }
}

/// Ends a session. A part of what is under way may still arrive, at any later time, in order, with nobody to tell.
pub(in crate::simulation) fn abandon(world: &Arc<World>, session: u64, lost: Option<&str>) {
    let zombies = world.step(|state| {
        let State { broker, dice, .. } = state;
        let Some(mut producer) = broker.sessions.remove(&session) else { return Vec::new() };
        let cut_short = producer.slots.values().any(|line| !line.queue.is_empty() || !line.answered.is_empty());
        let mut zombies = Vec::new();
        for line in producer.slots.values_mut() {
            if world.scenario.defect == Some(Defect::TimeoutTakenAsSuccess) && lost.is_some() {
                line.queue.iter().for_each(|flight| producer.sink.report(flight.ticket, Outcome::Published));
            }
            let arrive = if dice.once_in(2) { dice.below(line.queue.len() + 1) } else { 0 };
            line.queue.truncate(arrive);
            if arrive > 0 {
                let delay = dice.millis(0, 6_000);
                zombies.push((delay, std::mem::replace(line, Line::new(""))));
            }
        }
        if let Some(reason) = lost {
            producer.sink.session_lost(Reason::new(reason));
        }
        if lost.is_some() || cut_short {
            state.ledger.fault(1);
        }
        state.note(|| format!("session {session} is gone ({lost:?}), {} lines with zombies", zombies.len()));
        zombies
    });
    for (delay, line) in zombies {
        tokio::spawn(haunt(world.clone(), delay, line));
    }
}

async fn haunt(world: Arc<World>, delay: Duration, mut line: Line) {
    sleep(delay).await;
    world.step(|state| {
        let batch: Vec<Flight> = line.queue.drain(..).collect();
        state.note(|| format!("{} zombies arrive", batch.len()));
        answer(&mut state.ledger, &world.scenario, &mut line, batch, false);
        state.ledger.fault(0);
    });
}

enum Arrival {
    Gone,
    Wait(Duration),
    SessionLost,
    Answered { reports: Vec<(Ticket, Outcome)>, then_lost: bool },
}

fn arrive(state: &mut State, scenario: &Scenario, session: u64, slot: Slot) -> Arrival {
    let down_for = state.broker.down_until.map(|until| until.saturating_duration_since(Instant::now()));
    let blocked_for = state.broker.blocked_for();
    let State { broker, ledger, dice, calm, relays, .. } = &mut *state;
    let Some(producer) = broker.sessions.get_mut(&session) else { return Arrival::Gone };
    let paused = relays.get(&producer.relay).and_then(|control| control.paused_until);
    let frozen = paused.map(|until| until.saturating_duration_since(Instant::now())).unwrap_or_default();
    if !frozen.is_zero() && dice.once_in(2) {
        return Arrival::Wait(frozen.min(LOOK_AGAIN));
    }
    if let Some(time) = down_for.filter(|time| !time.is_zero()) {
        return if dice.once_in(4) { Arrival::SessionLost } else { Arrival::Wait(time.min(LOOK_AGAIN)) };
    }
    if let Some(time) = blocked_for {
        return Arrival::Wait(time.min(LOOK_AGAIN));
    }
    if let Some(until) = broker.stuck_until.get(&slot).filter(|&&until| Instant::now() < until) {
        return Arrival::Wait(until.saturating_duration_since(Instant::now()).min(LOOK_AGAIN));
    }
    let fault = !*calm && dice.once_in(scenario.broker_fault_every);
    if fault {
        ledger.fault(1);
    }
    if fault && dice.once_in(3) {
        return Arrival::SessionLost;
    }
    let Some(line) = producer.slots.get_mut(&slot) else { return Arrival::Gone };
    let size = (dice.below(6) + 1).min(line.queue.len());
    if scenario.lanes == LaneOrdering::OneInFlight {
        let for_no_reason = fault && dice.once_in(2);
        if for_no_reason || state.closes_the_channel(session, slot, size) {
            state.close_channel(session);
            return Arrival::Answered { reports: Vec::new(), then_lost: false };
        }
    }
    let State { broker, ledger, .. } = &mut *state;
    let Some(producer) = broker.sessions.get_mut(&session) else { return Arrival::Gone };
    let Some(line) = producer.slots.get_mut(&slot) else { return Arrival::Gone };
    let batch: Vec<Flight> = line.queue.drain(..size).collect();
    let topic_is_missing = broker.missing_until.get(&line.topic).is_some_and(|&until| Instant::now() < until);
    line.answered.clone_from(&batch);
    let reports = answer(ledger, scenario, line, batch, topic_is_missing);
    state.note(|| format!("session {session} slot {} answers {reports:?}", slot.0));
    Arrival::Answered { reports, then_lost: fault }
}

/// What the broker makes of a batch, in order.
fn answer(
    ledger: &mut Ledger,
    scenario: &Scenario,
    line: &mut Line,
    batch: Vec<Flight>,
    topic_is_missing: bool,
) -> Vec<(Ticket, Outcome)> {
    let pipelined = scenario.lanes == LaneOrdering::Pipelined;
    let poisoned = pipelined
        && batch.len() > 1
        && batch.iter().any(|flight| nature(ledger, flight) == Nature::Poison && !flight.doomed);
    let mut reports = Vec::with_capacity(batch.len());
    for flight in batch {
        let stopped = flight.doomed || (pipelined && flight.lane.is_some_and(|lane| line.failed.contains(&lane)));
        let outcome = if stopped {
            Outcome::NotSent
        } else if topic_is_missing {
            Outcome::RoutePaused(Reason::new("unknown topic"))
        } else if poisoned {
            Outcome::Quarantine(Reason::new("the batch was refused"))
        } else {
            verdict(ledger, &flight)
        };
        match outcome {
            Outcome::Published => line.fresh = false,
            // With no state for the producer the partition takes whatever comes next: followers are not stopped.
            _ if pipelined && !stopped && (topic_is_missing || !line.fresh) => line.fail(flight.lane),
            _ => {}
        }
        reports.push((flight.ticket, outcome));
    }
    reports
}

fn nature(ledger: &Ledger, flight: &Flight) -> Nature {
    ledger.find(flight.id).map_or(Nature::Healthy, |record| record.nature)
}

fn verdict(ledger: &mut Ledger, flight: &Flight) -> Outcome {
    match nature(ledger, flight) {
        Nature::RefusedTimes(_) if ledger.refuse(flight.id) => {
            Outcome::Retry(Reason::new("refused, later perhaps not"))
        }
        Nature::ReturnedTimes(_) if ledger.gives_back(flight.id) => {
            Outcome::RoutePaused(Reason::new("it leads to no queue"))
        }
        Nature::Rejected => {
            ledger.rejected(flight.id);
            Outcome::Reject(Reason::new("refused for good"))
        }
        Nature::Poison => {
            ledger.rejected(flight.id);
            Outcome::Quarantine(Reason::new("the batch was refused"))
        }
        _ => {
            ledger.published(flight.id);
            Outcome::Published
        }
    }
}

/// The answers reach the producer; whether there is more to carry.
fn report(state: &mut State, session: u64, slot: Slot, reports: Vec<(Ticket, Outcome)>) -> bool {
    state.broker.clear_suspects(session, slot, &reports);
    let Some(producer) = state.broker.sessions.get_mut(&session) else { return false };
    for (ticket, outcome) in reports {
        if !producer.lies.contains(&ticket) {
            producer.sink.report(ticket, outcome);
        }
    }
    let Some(line) = producer.slots.get_mut(&slot) else { return false };
    line.failed.clear();
    line.answered.clear();
    line.moving = !line.queue.is_empty();
    line.moving
}

fn latency(dice: &mut crate::simulation::dice::Dice) -> Duration {
    if dice.once_in(15) { dice.millis(5, 60) } else { dice.millis(0, 6) }
}
