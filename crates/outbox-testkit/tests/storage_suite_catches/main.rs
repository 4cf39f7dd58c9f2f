//! The storage suite is worth something only if it fails where a storage is wrong: each deliberate defect is caught, by the
//! case whose sentence it breaks.

mod defect;
mod faulty;
mod faulty_reader;

use std::panic::AssertUnwindSafe;

use defect::Defect;
use faulty::FaultyFixture;
use futures_util::FutureExt;
use outbox_testkit::storage_suite;

#[tokio::test(start_paused = true)]
async fn every_defect_is_caught_by_the_case_whose_sentence_it_breaks() {
    let mut missed = Vec::new();
    for (defect, sentence) in Defect::ALL {
        let verdict = AssertUnwindSafe(storage_suite::run(&FaultyFixture(*defect))).catch_unwind().await;
        let text = verdict.err().and_then(|panic| panic.downcast::<String>().ok()).unwrap_or_default();
        if !text.contains(&format!("  - {sentence}: ")) {
            missed.push(format!("{defect:?}: {sentence:?} did not fail. {text}"));
        }
    }
    assert!(missed.is_empty(), "not caught:\n{}", missed.join("\n"));
}

#[tokio::test(start_paused = true)]
async fn without_a_defect_nothing_fails() {
    storage_suite::run(&FaultyFixture(Defect::None)).await;
}
