//! What goes wrong stays with what it concerns: one message, one lane, one route, one session.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use outbox_core::message::{Message, Payload};
use outbox_core::ports::{Outcome, OutcomeSink, Outgoing};
use tokio::time::{Instant, timeout};

use super::TransportFixture;
use super::dispatch::{Dispatch, fixed, message, received};
use crate::case::{Case, Patience, cases};

pub(super) const CASES: &[Case<dyn TransportFixture>] = cases![dyn TransportFixture:
    a_missing_destination_pauses_its_route,
    a_paused_route_opens_when_its_destination_exists,
    a_paused_route_does_not_hold_up_another,
    a_message_that_is_too_large_is_rejected_alone,
    followers_of_a_rejected_message_in_the_same_call_are_not_sent,
    neighbours_of_a_rejected_message_are_published,
    a_lane_goes_on_after_a_rejection_was_reported,
    closing_a_session_waits_for_every_outcome,
    a_dropped_session_falls_silent_and_a_new_one_sends_it_all,
    a_session_whose_outcomes_nobody_reads_does_no_harm,
    two_sessions_keep_their_outcomes_apart,
    a_broker_that_does_not_answer_is_an_error_and_no_hang,
];

/// How long a lookup that must fail may take.
const LOOKUP_DEADLINE: Duration = Duration::from_secs(60);
/// How long nothing may arrive after a session was dropped.
const QUIET_TIME: Duration = Duration::from_millis(500);

async fn a_missing_destination_pauses_its_route(fixture: &dyn TransportFixture) {
    let mut dispatch = Dispatch::connect(fixed(fixture.transport().await)).await;
    let missing = fixed(fixture.missing_destination().await);
    let route = dispatch.transport.route(&message(&missing, None, 0)).expect("a route");
    for _ in 0..2 {
        let opened = timeout(LOOKUP_DEADLINE, dispatch.session.open_route(&route)).await.expect("an answer in time");
        let Err(Outcome::RoutePaused(reason)) = opened else { panic!("not paused but {opened:?}") };
        assert!(!reason.0.is_empty(), "no reason");
    }
    assert_eq!(dispatch.ledger.open_now().await, 0);
}

async fn a_paused_route_opens_when_its_destination_exists(fixture: &dyn TransportFixture) {
    let mut dispatch = Dispatch::connect(fixed(fixture.transport().await)).await;
    let destination = fixed(fixture.missing_destination().await);
    let route = dispatch.transport.route(&message(&destination, None, 0)).expect("a route");
    assert!(matches!(dispatch.session.open_route(&route).await, Err(Outcome::RoutePaused(_))));
    fixed(fixture.create_destination(&destination).await);
    dispatch.open(&destination).await;
    dispatch.publish(&[Arc::new(message(&destination, Some("a"), 0))]).await;
    assert_eq!(received(fixture, &destination, 1).await.len(), 1);
}

async fn a_paused_route_does_not_hold_up_another(fixture: &dyn TransportFixture) {
    let (mut dispatch, destination) = Dispatch::with_destination(fixture).await;
    let missing = fixed(fixture.missing_destination().await);
    let route = dispatch.transport.route(&message(&missing, None, 0)).expect("a route");
    let lookup = dispatch.session.open_route(&route); // runs beside the sends below
    let messages: Vec<_> = (0..20).map(|n| Arc::new(message(&destination, Some("a"), n))).collect();
    let (opened, ()) = futures_util::join!(lookup, dispatch.publish(&messages));
    assert!(matches!(opened, Err(Outcome::RoutePaused(_))), "{opened:?}");
    assert_eq!(received(fixture, &destination, 20).await.len(), 20);
}

async fn a_message_that_is_too_large_is_rejected_alone(fixture: &dyn TransportFixture) {
    let (mut dispatch, destination) = Dispatch::with_destination(fixture).await;
    let large = oversize(fixture, &destination, "a");
    let outcome = outcomes(&mut dispatch, &[large]).await.remove(0);
    expect_reject(&outcome);
    let small = Arc::new(message(&destination, Some("b"), 0));
    dispatch.publish(std::slice::from_ref(&small)).await;
    let arrived = received(fixture, &destination, 1).await;
    assert_eq!(arrived.iter().map(|message| message.id).collect::<Vec<_>>(), [small.id]);
}

async fn followers_of_a_rejected_message_in_the_same_call_are_not_sent(fixture: &dyn TransportFixture) {
    let (mut dispatch, destination) = Dispatch::with_destination(fixture).await;
    let first = Arc::new(message(&destination, Some("a"), 0));
    dispatch.publish(std::slice::from_ref(&first)).await;
    let large = oversize(fixture, &destination, "a");
    let [one, two, three] = [1, 2, 3].map(|n| Arc::new(message(&destination, Some("a"), n)));
    let is_sent = dispatch.transport.route(&large).is_ok(); // otherwise the relay never sends it, and keeps the order
    let sent = if is_sent { vec![large, one, two, three] } else { vec![large] };
    let outcomes = outcomes(&mut dispatch, &sent).await;
    expect_reject(&outcomes[0]);
    if is_sent {
        assert_eq!(outcomes[1..], [const { Outcome::NotSent }; 3]);
    }
    let last = Arc::new(message(&destination, Some("a"), 4));
    dispatch.publish(std::slice::from_ref(&last)).await;
    let arrived = received(fixture, &destination, 2).await;
    assert_eq!(arrived.iter().map(|message| message.id).collect::<Vec<_>>(), [first.id, last.id]);
}

async fn neighbours_of_a_rejected_message_are_published(fixture: &dyn TransportFixture) {
    let (mut dispatch, destination) = Dispatch::with_destination(fixture).await;
    let keys: Vec<_> = (0..20).map(|n| format!("key-{n}")).collect();
    let first: Vec<_> = keys.iter().map(|key| Arc::new(message(&destination, Some(key), 0))).collect();
    dispatch.publish(&first).await;
    let mut messages: Vec<_> = keys.iter().map(|key| Arc::new(message(&destination, Some(key), 1))).collect();
    messages[10] = oversize(fixture, &destination, &keys[10]);
    let outcomes = outcomes(&mut dispatch, &messages).await;
    for (n, outcome) in outcomes.iter().enumerate() {
        if n == 10 {
            expect_reject(outcome);
        } else {
            assert_eq!(*outcome, Outcome::Published, "message {n}");
        }
    }
    let arrived: BTreeSet<_> = received(fixture, &destination, 39).await.into_iter().map(|m| m.id).collect();
    assert!(arrived.len() == 39 && !arrived.contains(&messages[10].id));
}

async fn a_lane_goes_on_after_a_rejection_was_reported(fixture: &dyn TransportFixture) {
    let (mut dispatch, destination) = Dispatch::with_destination(fixture).await;
    let mut expected = Vec::new();
    for n in 0..3 {
        let small = Arc::new(message(&destination, Some("a"), n));
        dispatch.publish(std::slice::from_ref(&small)).await;
        expected.push(small.id);
        let large = oversize(fixture, &destination, "a");
        expect_reject(&outcomes(&mut dispatch, &[large]).await[0]);
    }
    let arrived = received(fixture, &destination, 3).await;
    assert_eq!(arrived.iter().map(|message| message.id).collect::<Vec<_>>(), expected);
}

async fn closing_a_session_waits_for_every_outcome(fixture: &dyn TransportFixture) {
    let (mut dispatch, destination) = Dispatch::with_destination(fixture).await;
    let messages = warmed_up(&mut dispatch, &destination, 2_000).await;
    dispatch.send(messages).await;
    let Dispatch { session, mut ledger, .. } = dispatch;
    session.close().await;
    assert_eq!(ledger.open_now().await, 0, "messages without an outcome after close");
    assert!(ledger.all_published());
    assert!(received(fixture, &destination, 2_000).await.len() >= 2_000);
}

async fn a_dropped_session_falls_silent_and_a_new_one_sends_it_all(fixture: &dyn TransportFixture) {
    let (mut dispatch, destination) = Dispatch::with_destination(fixture).await;
    let outgoing = warmed_up(&mut dispatch, &destination, 2_000).await;
    let messages: Vec<_> = outgoing.iter().map(|outgoing| outgoing.message.clone()).collect();
    dispatch.send(outgoing).await;
    let transport = dispatch.transport.clone();
    drop(dispatch);
    let patience = Patience::new();
    let (mut count, mut since) = (0, Instant::now());
    while since.elapsed() < QUIET_TIME {
        let arrived = fixed(fixture.received(&destination).await).len();
        if arrived != count {
            (count, since) = (arrived, Instant::now()); // what was on its way to the broker may still arrive
        }
        patience.wait(|| "a dropped session falls silent".to_owned()).await;
    }
    let mut next = Dispatch::connect(transport).await;
    next.open(&destination).await;
    next.publish(&messages).await;
    let arrived: BTreeSet<_> = received(fixture, &destination, 2_000).await.into_iter().map(|m| m.id).collect();
    assert!(messages.iter().all(|message| arrived.contains(&message.id)), "a message is missing");
}

async fn a_session_whose_outcomes_nobody_reads_does_no_harm(fixture: &dyn TransportFixture) {
    let (mut dispatch, destination) = Dispatch::with_destination(fixture).await;
    let outgoing = warmed_up(&mut dispatch, &destination, 100).await;
    let Dispatch { mut session, ledger, .. } = dispatch;
    drop(ledger);
    session.send(outgoing).await;
    session.close().await;
    assert!(received(fixture, &destination, 100).await.len() >= 100);
}

async fn two_sessions_keep_their_outcomes_apart(fixture: &dyn TransportFixture) {
    let (mut one, destination) = Dispatch::with_destination(fixture).await;
    let mut other = Dispatch::connect(one.transport.clone()).await;
    other.open(&destination).await;
    let messages: Vec<_> = (0..40).map(|n| Arc::new(message(&destination, Some(&format!("key-{n}")), n))).collect();
    // Each ledger fails on a ticket that is not its own, and both use the same numbers.
    futures_util::join!(one.publish(&messages[..10]), other.publish(&messages[10..]));
    assert_eq!((one.ledger.open_now().await, other.ledger.open_now().await), (0, 0));
    drop(other);
    one.publish(&[Arc::new(message(&destination, Some("a"), 40))]).await;
    assert_eq!(received(fixture, &destination, 41).await.len(), 41);
}

async fn a_broker_that_does_not_answer_is_an_error_and_no_hang(fixture: &dyn TransportFixture) {
    let transport = fixed(fixture.unreachable_transport().await);
    let (sink, _outcomes) = OutcomeSink::channel();
    let attempt = async {
        let Ok(session) = transport.connect(sink).await else { return };
        let route = transport.route(&message("order", None, 0)).expect("a route");
        let opened = session.open_route(&route).await;
        assert!(matches!(opened, Err(Outcome::SessionLost(_))), "not lost but {opened:?}");
    };
    assert!(timeout(LOOKUP_DEADLINE, attempt).await.is_ok(), "no answer within {LOOKUP_DEADLINE:?}");
}

/// Sends in one call and waits for each outcome. A message that the transport refuses in `route` counts as rejected, as in
/// the relay.
async fn outcomes(dispatch: &mut Dispatch, messages: &[Arc<Message>]) -> Vec<Outcome> {
    let (mut sent, mut results) = (Vec::new(), Vec::new());
    for message in messages {
        results.push(match dispatch.transport.route(message) {
            Ok(_) => {
                sent.push(dispatch.outgoing(message));
                Ok(sent.last().map(|outgoing| outgoing.ticket).expect("it was just pushed"))
            }
            Err(reason) => Err(Outcome::Reject(reason)),
        });
    }
    dispatch.send(sent).await;
    let mut outcomes = Vec::new();
    for result in results {
        outcomes.push(match result {
            Ok(ticket) => dispatch.ledger.outcome(ticket).await,
            Err(rejected) => rejected,
        });
    }
    outcomes
}

/// Messages of as many keys, to be sent at once: every slot has had its first message.
async fn warmed_up(dispatch: &mut Dispatch, destination: &str, count: usize) -> Vec<Outgoing> {
    let first: Vec<_> = (0..200).map(|n| Arc::new(message(destination, Some(&format!("first-{n}")), n))).collect();
    dispatch.publish(&first).await;
    (0..count).map(|n| dispatch.outgoing(&Arc::new(message(destination, Some(&format!("key-{n}")), n)))).collect()
}

fn oversize(fixture: &dyn TransportFixture, destination: &str, key: &str) -> Arc<Message> {
    let payload = Payload::from(vec![b'x'; fixture.oversize_bytes()]);
    Arc::new(Message { payload, ..message(destination, Some(key), 0) })
}

fn expect_reject(outcome: &Outcome) {
    let Outcome::Reject(reason) = outcome else { panic!("not rejected but {outcome:?}") };
    assert!(!reason.0.is_empty(), "no reason");
}
