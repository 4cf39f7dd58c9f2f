//! The migrations from the command line.

use crate::support::{mysql::MysqlDatabase, postgres::Database, program::run};

#[test]
fn up_status_and_down_on_sqlite() {
    let folder = tempfile::tempdir().expect("a folder");
    let url = format!("sqlite:{}", folder.path().join("shop.db").display());
    there_and_back(&["--database", &url, "--table-prefix", "shop_"]);
}

#[test]
fn up_status_and_down_on_postgres_in_a_schema_of_its_own() {
    let database = Database::empty();
    there_and_back(&["--database", &database.url, "--schema", "billing", "--table-prefix", "evt_"]);
    assert_eq!(database.psql("SELECT count(*) FROM pg_tables WHERE schemaname = 'billing'").trim(), "0");
}

#[test]
fn up_status_and_down_on_mysql() {
    let database = MysqlDatabase::empty();
    there_and_back(&["--database", &database.url, "--table-prefix", "evt_"]);
    assert_eq!(database.tables("evt_"), 0);
}

fn there_and_back(place: &[&str]) {
    let migrate = |action: &[&str]| {
        let ended = run(&[&["migrate"], action, place].concat());
        assert!(ended.status.success(), "{action:?}: {}", ended.everything());
        ended.stdout
    };
    assert!(migrate(&["status"]).contains("0001 outbox  pending"));
    assert_eq!(migrate(&["up"]), "applied 0001 outbox\n");
    assert_eq!(migrate(&["up"]), "nothing to do\n");
    assert!(migrate(&["status"]).contains("0001 outbox  applied 2"));
    assert_eq!(migrate(&["down", "--to", "0"]), "reverted 0001 outbox\n");
    assert!(migrate(&["status"]).contains("pending"));
}

#[test]
fn the_printed_sql_makes_a_schema_that_the_command_recognizes() {
    let database = Database::empty();
    let printed = run(&["migrate", "print", "--database", "postgres://nowhere.invalid/none"]);
    assert!(printed.status.success(), "{}", printed.everything());
    database.psql(&printed.stdout);
    let status = run(&["migrate", "status", "--database", &database.url]);
    assert!(status.stdout.contains("0001 outbox  applied"), "{}", status.everything());
}

#[test]
fn the_printed_sql_of_mysql_makes_a_schema_that_the_command_recognizes() {
    let database = MysqlDatabase::empty();
    let printed = run(&["migrate", "print", "--database", "mysql://nowhere.invalid/none"]);
    assert!(printed.status.success(), "{}", printed.everything());
    database.execute(&printed.stdout);
    let status = run(&["migrate", "status", "--database", &database.url]);
    assert!(status.stdout.contains("0001 outbox  applied"), "{}", status.everything());
}

#[test]
fn going_down_keeps_pending_messages_unless_told_otherwise() {
    let database = Database::migrated();
    database.psql(
        "INSERT INTO outbox_messages (aggregate_type, event_type, payload) VALUES ('order', 'order.placed', '{}')",
    );
    let down = ["migrate", "down", "--to", "0", "--database", &database.url];
    let refused = run(&down);
    assert_eq!(refused.status.code(), Some(1));
    assert!(refused.stderr.contains("1 pending messages"), "{}", refused.stderr);
    assert!(run(&[&down[..], &["--delete-rows"]].concat()).status.success());
}
