//! The migrations from the command line.

use crate::support::{mysql::MysqlDatabase, postgres::Database, program::run};

#[test]
fn up_status_and_down_on_sqlite() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("shop.db");
    let url = format!("sqlite:{}", file.display());
    for action in [&["status"][..], &["down", "--to", "0"]] {
        let refused = run(&[&["migrate"], action, &["--database", &url]].concat());
        assert_eq!(refused.status.code(), Some(1), "{}", refused.everything());
        assert!(refused.stderr.contains("--database: there is no file"), "{}", refused.stderr);
        assert!(!file.exists(), "a mistyped path became a database");
    }
    std::fs::write(&file, "").expect("an empty database");
    there_and_back("outbox", &["--database", &url, "--table-prefix", "shop_"]);
    there_and_back("inbox", &["--inbox", "--database", &url, "--inbox-table-prefix", "bill_"]);
}

#[test]
fn up_status_and_down_on_postgres_in_a_schema_of_its_own() {
    let database = Database::empty();
    let place = ["--database", &database.url, "--schema", "billing"];
    there_and_back("outbox", &[&place[..], &["--table-prefix", "evt_"]].concat());
    there_and_back("inbox", &[&place[..], &["--inbox"]].concat());
    assert_eq!(database.psql("SELECT count(*) FROM pg_tables WHERE schemaname = 'billing'").trim(), "0");
}

#[test]
fn up_status_and_down_on_mysql() {
    let database = MysqlDatabase::empty();
    there_and_back("outbox", &["--database", &database.url, "--table-prefix", "evt_"]);
    there_and_back("inbox", &["--database", &database.url, "--inbox", "--inbox-table-prefix", "evt_in_"]);
    assert_eq!(database.tables("evt_"), 0);
}

fn there_and_back(name: &str, place: &[&str]) {
    let migrate = |action: &[&str]| {
        let ended = run(&[&["migrate"], action, place].concat());
        assert!(ended.status.success(), "{action:?}: {}", ended.everything());
        ended.stdout
    };
    assert!(migrate(&["status"]).contains(&format!("0001 {name}  pending")));
    assert_eq!(migrate(&["up"]), format!("applied 0001 {name}\n"));
    assert_eq!(migrate(&["up"]), "nothing to do\n");
    assert!(migrate(&["status"]).contains(&format!("0001 {name}  applied 2")));
    assert_eq!(migrate(&["down", "--to", "0"]), format!("reverted 0001 {name}\n"));
    assert!(migrate(&["status"]).contains("pending"));
}

#[test]
fn outbox_and_inbox_live_in_one_database() {
    let database = Database::migrated();
    let inbox = ["--inbox", "--database", &database.url];
    assert!(run(&[&["migrate", "up"], &inbox[..]].concat()).status.success());
    let tables = "SELECT count(*) FROM pg_tables WHERE tablename IN ('outbox_messages', 'inbox_messages')";
    assert_eq!(database.psql(tables).trim(), "2");
    assert!(run(&[&["migrate", "down", "--to", "0"], &inbox[..]].concat()).status.success());
    assert_eq!(database.psql(tables).trim(), "1");
}

#[test]
fn the_tables_of_the_inbox_cannot_have_the_prefix_of_the_outbox() {
    let up = ["migrate", "up", "--inbox", "--database", "sqlite:nowhere.db"];
    let refused = run(&[&up[..], &["--table-prefix", "shop_"]].concat());
    assert_eq!(refused.status.code(), Some(1));
    assert!(refused.stderr.contains("with --inbox say --inbox-table-prefix"), "{}", refused.stderr);
    let refused = run(&[&up[..], &["--inbox-table-prefix", "outbox_"]].concat());
    assert_eq!(refused.status.code(), Some(1));
    assert!(refused.stderr.contains("it must be another"), "{}", refused.stderr);
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
fn the_printed_sql_of_the_inbox_makes_a_schema_that_the_command_recognizes() {
    let database = Database::empty();
    let printed = run(&["migrate", "print", "--inbox", "--database", "postgres://nowhere.invalid/none"]);
    assert!(printed.status.success(), "{}", printed.everything());
    database.psql(&printed.stdout);
    let status = run(&["migrate", "status", "--inbox", "--database", &database.url]);
    assert!(status.stdout.contains("0001 inbox  applied"), "{}", status.everything());
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
