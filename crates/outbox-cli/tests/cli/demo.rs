//! The demo proves itself.

use crate::support::{
    postgres::Database,
    program::{Ended, outbox, run, succeed},
    service,
};

fn assert_plain(text: &str) {
    let control: Vec<char> = text.chars().filter(|c| c.is_control() && *c != '\n').collect();
    assert!(control.is_empty(), "control characters {control:?} in {text:?}");
    for line in text.lines() {
        assert!(line.chars().count() <= 80, "wider than 80 columns: {line:?}");
    }
}

fn assert_verified(ended: &Ended, events: &str) {
    assert!(ended.status.success(), "{}", ended.everything());
    for found in [events, "lost", "ghosts", "0 ✔", "every committed event arrived"] {
        assert!(ended.stdout.contains(found), "{found:?} is missing in {}", ended.stdout);
    }
    assert!(!ended.stdout.contains('✘'), "{}", ended.stdout);
}

#[test]
fn the_demo_without_services_verifies_itself_and_is_plain_when_piped() {
    let ended = run(&["demo", "--events", "3000", "--rate", "0"]);
    assert_verified(&ended, "3,000");
    assert_plain(&ended.stdout);
    assert_eq!(ended.stderr, "");
}

#[test]
fn the_demo_leaves_nothing_in_the_temporary_folder() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut command = outbox(&["demo", "--events", "200", "--rate", "0"]);
    succeed(command.env("TMPDIR", folder.path()));
    assert_eq!(folder.path().read_dir().expect("the folder is there").count(), 0);
}

#[test]
fn the_demo_on_real_services_verifies_itself_and_cleans_up() {
    let database = Database::empty();
    let kafka = service("OUTBOX_TEST_KAFKA");
    let ended = run(&["demo", "--events", "5000", "--rate", "0", "--database", &database.url, "--kafka", &kafka]);
    assert_verified(&ended, "5,000");
    assert_plain(&ended.stdout);
    let left = database.psql("SELECT count(*) FROM pg_class WHERE relname LIKE 'demo_%'");
    assert_eq!(left.trim(), "0");
}

#[test]
fn more_events_than_the_in_process_broker_holds_are_refused_with_the_limit() {
    for events in ["0", "100000000"] {
        let ended = run(&["demo", "--events", events]);
        assert_eq!(ended.status.code(), Some(1));
        assert!(
            ended.stderr.contains("--events is") && ended.stderr.contains("it must be 1 to 81,920"),
            "{}",
            ended.stderr
        );
    }
}
