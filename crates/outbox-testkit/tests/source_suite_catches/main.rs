//! The source suite is worth something only if it fails where a source is wrong: each deliberate defect is caught, by the case whose
//! sentence it breaks.

mod faulty;

use std::panic::AssertUnwindSafe;

use faulty::{Defect, FaultyFixture};
use futures_util::FutureExt;
use outbox_core::inbox::Acknowledging::{self, Cumulative, Individual};
use outbox_testkit::source_suite;

const ONCE: &str = "every message arrives once in the order of its key";
const AS_IT_WAS: &str = "a message arrives as it was published";
const CLOSED: &str = "what was acknowledged before a close does not come again";
const START: &str = "a partition starts at its first unacknowledged message";

/// Each defect, how its source takes acknowledgements, and the sentence that it breaks.
const DEFECTS: &[(Defect, Acknowledging, &str)] = &[
    (Defect::RefusesWithoutBroker, Individual, "an unreachable broker is unavailable"),
    (Defect::HangsWithoutBroker, Individual, "an unreachable broker is unavailable"),
    (Defect::DeliversTwice, Cumulative, ONCE),
    (Defect::DeliversBackwards, Individual, ONCE),
    (Defect::LosesMessages, Individual, ONCE),
    (Defect::DeliversNothing, Individual, ONCE),
    (Defect::AssignsNothing, Cumulative, ONCE),
    (Defect::LosesHeaders, Individual, AS_IT_WAS),
    (Defect::LosesKeys, Cumulative, AS_IT_WAS),
    (Defect::TruncatesPayloads, Individual, AS_IT_WAS),
    (Defect::RenamesStreams, Individual, AS_IT_WAS),
    (Defect::SaysRedelivered, Individual, AS_IT_WAS),
    (Defect::LosesWhatIsCancelled, Individual, "next may be dropped at any time"),
    (Defect::IgnoresPause, Cumulative, "a paused partition waits until it is resumed"),
    (Defect::IgnoresResume, Individual, "a paused partition waits until it is resumed"),
    (Defect::StartsAtTheEnd, Individual, "messages that were published before the first subscription arrive"),
    (Defect::ForgetsAcknowledgementsAtClose, Cumulative, CLOSED),
    (Defect::ForgetsAcknowledgementsAtClose, Individual, CLOSED),
    (Defect::AcknowledgesAllAtClose, Individual, "what was not acknowledged comes again after a close"),
    (Defect::AcknowledgesAtDelivery, Individual, "a dropped subscription acknowledges nothing more"),
    (Defect::AcknowledgesAtDelivery, Cumulative, "a dropped subscription acknowledges nothing more"),
    (Defect::HidesTheBrokersWord, Cumulative, "the broker s own word on acknowledgements is told"),
    (Defect::MisplacesStarts, Cumulative, START),
    (Defect::MisplacesStarts, Individual, START),
    (Defect::EndsOverStrangePartitions, Individual, "calls that name a strange partition are ignored"),
    (Defect::GivesEachMemberEverything, Cumulative, "a partition belongs to one member at a time"),
    (Defect::GivesEachMemberEverything, Individual, "a partition belongs to one member at a time"),
    (Defect::KeepsPartitionsAfterClose, Cumulative, "what a member leaves goes to another"),
    (Defect::KeepsPartitionsAfterClose, Individual, "what a member leaves goes to another"),
    (
        Defect::IgnoresAcknowledgementsOfTheRevoked,
        Cumulative,
        "acknowledgements made while a partition is revoked count",
    ),
];

#[tokio::test(start_paused = true)]
async fn every_defect_is_caught_by_the_case_whose_sentence_it_breaks() {
    let mut missed = Vec::new();
    for &(defect, acknowledging, sentence) in DEFECTS {
        let fixture = FaultyFixture::new(defect, acknowledging);
        let verdict = AssertUnwindSafe(source_suite::run(&fixture)).catch_unwind().await;
        let text = verdict.err().and_then(|panic| panic.downcast::<String>().ok()).unwrap_or_default();
        if !text.contains(&format!("  - {sentence}: ")) {
            missed.push(format!("{defect:?} ({acknowledging:?}): {sentence:?} did not fail. {text}"));
        }
    }
    assert!(missed.is_empty(), "not caught:\n{}", missed.join("\n"));
}

#[tokio::test(start_paused = true)]
async fn without_a_defect_nothing_fails() {
    for acknowledging in [Cumulative, Individual] {
        source_suite::run(&FaultyFixture::new(Defect::None, acknowledging)).await;
    }
}
