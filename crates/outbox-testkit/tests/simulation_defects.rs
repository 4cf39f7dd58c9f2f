//! Each deliberate defect is caught: a check that nothing can fail checks nothing.
#![allow(clippy::print_stdout, reason = "how many seeds a defect took is the output of these tests")]

use outbox_testkit::simulation::{self, Defect, Options};

/// Seeds within which a defect must be caught.
const SEEDS: u64 = 2_000;

#[test]
fn a_message_marked_before_its_confirm_is_caught() {
    is_caught(Defect::MarkBeforeConfirm);
}

#[test]
fn a_floor_without_a_sweep_is_caught() {
    is_caught(Defect::FloorWithoutSweep);
}

#[test]
fn a_hot_read_over_a_straggler_of_its_key_is_caught() {
    is_caught(Defect::HotReadOverStraggler);
}

#[test]
fn a_segment_guarded_by_the_reads_own_running_list_is_caught() {
    is_caught(Defect::OwnRunningList);
}

#[test]
fn transactions_listed_as_harmless_before_the_horizon_are_caught() {
    is_caught(Defect::IdleListedBeforeHorizon);
}

#[test]
fn a_floor_without_dirty_reads_is_caught() {
    is_caught(Defect::NoDirtyRead);
}

#[test]
fn a_hot_read_over_a_watched_row_of_its_key_is_caught() {
    is_caught(Defect::HotReadOverWatched);
}

#[test]
fn a_range_that_is_looked_at_without_a_margin_is_caught() {
    is_caught(Defect::NoMargin);
}

#[test]
fn a_dirty_read_before_the_read_that_it_guards_is_caught() {
    is_caught(Defect::DirtyReadFirst);
}

#[test]
fn a_take_over_at_a_common_floor_is_caught() {
    is_caught(Defect::CommonFloor);
}

#[test]
fn a_failure_mark_without_the_epoch_is_caught() {
    is_caught(Defect::FailureMarkWithoutEpoch);
}

#[test]
fn publishing_past_the_lease_is_caught() {
    is_caught(Defect::PublishPastLease);
}

#[test]
fn a_follower_released_before_the_dead_letters_move_committed_is_caught() {
    is_caught(Defect::ReleaseBeforeBuried);
}

#[test]
fn parked_keys_that_are_read_only_once_are_caught() {
    is_caught(Defect::ParkedKeysReadOnce);
}

#[test]
fn a_settled_row_that_comes_back_is_caught() {
    is_caught(Defect::ForgetSettledAtOnce);
}

#[test]
fn an_ambiguous_time_out_taken_for_a_success_is_caught() {
    is_caught(Defect::TimeoutTakenAsSuccess);
}

#[test]
fn a_follower_that_overtakes_a_failed_head_on_a_fresh_producer_is_caught() {
    is_caught(Defect::NoFirstAlone);
}

fn is_caught(defect: Defect) {
    let options = Options { defect: Some(defect), ..Options::default() };
    let mut others = Vec::new();
    for seed in 1..=SEEDS {
        match simulation::run(seed, &options) {
            Err(violation) if defect.breaks().contains(&violation.kind) => {
                println!("{defect:?} caught after {seed} seeds: {violation}");
                return;
            }
            Err(violation) => others.push(violation.to_string()),
            Ok(_) => {}
        }
    }
    panic!("{defect:?} was not caught within {SEEDS} seeds; violations of another kind: {others:?}");
}
