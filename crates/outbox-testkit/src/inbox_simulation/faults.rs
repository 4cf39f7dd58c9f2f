use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::processes;
use super::world::World;

/// Lets faults happen, spread over the time of publishing.
pub(super) async fn strike(world: &Arc<World>) {
    let span = world.scenario.messages * world.scenario.think_ms / 2 + 500;
    for _ in 0..world.scenario.faults {
        let wait = world.roll(|dice| dice.millis(1, (2 * span / world.scenario.faults.max(1)).max(2)));
        sleep(wait).await;
        world.lock().summary.faults += 1;
        one(world).await;
    }
}

async fn one(world: &Arc<World>) {
    match world.roll(|dice| dice.between(0, 10)) {
        0 | 1 => {
            if let Some(number) = any_process(world) {
                let polls = world.roll(|dice| dice.between(1, 40));
                if let Some(control) = world.lock().processes.get_mut(&number) {
                    control.polls_left = Some(polls);
                }
            }
        }
        // a process stands still, and others take its partitions over: a zombie
        2..=4 => {
            if let Some(number) = any_process(world) {
                let time = world.roll(|dice| dice.millis(10, 6_000));
                if let Some(control) = world.lock().processes.get_mut(&number) {
                    control.paused_until = Some(Instant::now() + time);
                }
                if world.roll(|dice| dice.once_in(2)) {
                    world.source.take_away(&world.consumer);
                }
            }
        }
        5 => world.source.take_away(&world.consumer),
        6 => world.source.disconnect(&world.consumer),
        7 => {
            world.database.set_unavailable(true);
            sleep(world.roll(|dice| dice.millis(10, 3_000))).await;
            world.database.set_unavailable(false);
        }
        8 => {
            world.source.set_unavailable(true);
            world.source.disconnect(&world.consumer);
            sleep(world.roll(|dice| dice.millis(10, 2_000))).await;
            world.source.set_unavailable(false);
        }
        _ => {
            processes::start(world); // a rebalance; it leaves again after a while
            sleep(Duration::from_millis(50)).await;
            let newest = world.lock().processes.keys().next_back().copied();
            if let Some(control) =
                newest.and_then(|number| world.lock().processes.get_mut(&number).map(|c| c.leave.take()))
            {
                drop(control);
            }
        }
    }
}

fn any_process(world: &World) -> Option<usize> {
    let mut state = world.lock();
    let numbers: Vec<_> = state.processes.keys().copied().collect();
    (!numbers.is_empty()).then(|| state.dice.pick(&numbers))
}
