//! The transport suite is worth something only if it fails where a transport is wrong: each deliberate defect is caught, by
//! the case whose sentence it breaks.

mod faulty;

use std::panic::AssertUnwindSafe;

use faulty::{Defect, FaultyFixture};
use futures_util::FutureExt;
use outbox_testkit::transport_suite;

/// Each defect with the sentence that it breaks.
const DEFECTS: &[(Defect, &str)] = &[
    (Defect::ConfirmsWithoutSending, "every message gets one outcome and arrives once"),
    (Defect::ReportsTwice, "every message gets one outcome and arrives once"),
    (Defect::SendsTwice, "every message gets one outcome and arrives once"),
    (Defect::ReportsNothing, "every message gets one outcome and arrives once"),
    (Defect::SendsBackwards, "messages of one key arrive in order in one partition"),
    (Defect::LosesHeaders, "a message arrives as it was sent"),
    (Defect::InventsKeys, "a message without a key arrives without a key"),
    (Defect::RoutesAtRandom, "a route depends on the message alone"),
    (Defect::SpreadsKeysOverSlots, "a key keeps its slot for the whole session"),
    (Defect::NumbersSlotsByRoute, "slots of two routes differ"),
    (Defect::OpensEveryRoute, "a missing destination pauses its route"),
    (Defect::TruncatesLargeMessages, "a message that is too large is rejected alone"),
    (Defect::SendsFollowersOfTheRejected, "followers of a rejected message in the same call are not sent"),
    (Defect::RejectsNeighbours, "neighbours of a rejected message are published"),
    (Defect::ClosesWithoutWaiting, "closing a session waits for every outcome"),
    (Defect::HangsWithoutBroker, "a broker that does not answer is an error and no hang"),
];

#[tokio::test(start_paused = true)]
async fn every_defect_is_caught_by_the_case_whose_sentence_it_breaks() {
    let mut missed = Vec::new();
    for &(defect, sentence) in DEFECTS {
        let verdict = AssertUnwindSafe(transport_suite::run(&FaultyFixture::new(defect))).catch_unwind().await;
        let text = verdict.err().and_then(|panic| panic.downcast::<String>().ok()).unwrap_or_default();
        if !text.contains(&format!("  - {sentence}: ")) {
            missed.push(format!("{defect:?}: {sentence:?} did not fail. {text}"));
        }
    }
    assert!(missed.is_empty(), "not caught:\n{}", missed.join("\n"));
}

#[tokio::test(start_paused = true)]
async fn without_a_defect_nothing_fails() {
    transport_suite::run(&FaultyFixture::new(Defect::None)).await;
}
