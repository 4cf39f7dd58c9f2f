use std::process::{Child, Command, Stdio};

use super::{eventually, program::succeed, service, unique};

/// A database of its own on the test server, dropped at the end.
pub(crate) struct Database {
    server: String,
    name: String,
    /// Its URL.
    pub(crate) url: String,
}

impl Database {
    /// An empty database.
    pub(crate) fn empty() -> Self {
        let server = service("OUTBOX_TEST_POSTGRES_URL");
        let name = unique("cli");
        psql(&server, &format!("CREATE DATABASE {name}"));
        let (base, query) = server.split_once('?').map_or((server.as_str(), None), |(base, query)| (base, Some(query)));
        let (host, _) = base.rsplit_once('/').expect("the server's URL names a database");
        let query = query.map(|query| format!("?{query}")).unwrap_or_default();
        let url = format!("{host}/{name}{query}");
        Self { server, name, url }
    }

    /// A database with the outbox tables, made by the command.
    pub(crate) fn migrated() -> Self {
        let database = Self::empty();
        succeed(&mut super::program::outbox(&["migrate", "up", "--database", &database.url]));
        database
    }

    /// Runs a statement in a transaction that stays open until the result is dropped.
    pub(crate) fn hold(&self, sql: &str) -> Held {
        let script = format!("BEGIN; {sql}; SELECT pg_sleep(3600)");
        let mut command = Command::new("psql");
        command.arg(&self.url).args(["--no-psqlrc", "--quiet", "--set", "ON_ERROR_STOP=1", "--command", &script]);
        let held = Held { session: command.stdout(Stdio::null()).spawn().expect("psql starts") };
        // The sleep waits on PgSleep once the statement before it is done.
        let sleeping =
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'PgSleep'";
        eventually("the statement holds", || (self.psql(sleeping).trim() == "1").then_some(()));
        held
    }

    /// Runs SQL through `psql`, as somebody in another language would, and returns what it printed.
    pub(crate) fn psql(&self, sql: &str) -> String {
        psql(&self.url, sql)
    }
}

/// An open transaction.
pub(crate) struct Held {
    session: Child,
}

impl Drop for Held {
    fn drop(&mut self) {
        let _ = self.session.kill();
        let _ = self.session.wait();
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        let drop = format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", self.name);
        let _ = Command::new("psql").args([&self.server, "--quiet", "--command", &drop]).output();
    }
}

fn psql(url: &str, sql: &str) -> String {
    let arguments =
        ["--no-psqlrc", "--quiet", "--tuples-only", "--no-align", "--set", "ON_ERROR_STOP=1", "--command", sql];
    succeed(Command::new("psql").arg(url).args(arguments))
}
