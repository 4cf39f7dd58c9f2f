//! The role of `docs/roles.md`.

use diesel_async::SimpleAsyncConnection;
use outbox_core::inbox::InboxStorage;
use outbox_diesel::inbox::InboxTables;
use outbox_diesel::inbox::postgres::PostgresInbox;
use uuid::Uuid;

use crate::database::{Database, connect, server_url};

const PAGE: &str = include_str!("../../../../docs/roles.md");

/// A consumer's role of one test, dropped with this value: after the databases in which it has grants.
pub(crate) struct ConsumerRole {
    pub(crate) name: String,
    grants: String,
}

impl ConsumerRole {
    /// Makes the role as the page does.
    pub(crate) async fn create() -> Self {
        let name = format!("billing_consumer_{}", Uuid::new_v4().simple());
        let inbox = PAGE.split("\n## The inbox\n").nth(1).expect("the page has the section");
        let postgres = inbox.split("\n### PostgreSQL\n").nth(1).expect("the section has PostgreSQL");
        let sql = postgres.split("```sql\n").nth(1).and_then(|rest| rest.split("```").next()).expect("it has SQL");
        let sql = sql.replace("billing_consumer", &name);
        let (create, grants) = sql.split_once('\n').expect("a role, then its grants");
        connect(&server_url()).await.batch_execute(create).await.expect("a superuser can create a role");
        Self { grants: grants.to_owned(), name }
    }

    /// Grants what the page grants, on the tables of this database.
    pub(crate) async fn grant(&self, database: &Database) {
        let (schema, prefix) = (database.tables.schema().unwrap_or("public"), database.tables.prefix());
        let sql = self.grants.replace("SCHEMA public", &format!("SCHEMA {schema}"));
        database.batch(&sql.replace(" inbox_", &format!(" {schema}.{prefix}"))).await;
    }

    /// The URL of a database, as this role.
    pub(crate) fn url(&self, database: &Database) -> String {
        let url = database.url();
        let separator = if url.contains('?') { '&' } else { '?' };
        format!("{url}{separator}options=-crole%3D{}", self.name)
    }
}

impl Drop for ConsumerRole {
    fn drop(&mut self) {
        let sql = format!("DROP ROLE {}", self.name);
        let dropped = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async { connect(&server_url()).await.batch_execute(&sql).await })
        });
        let dropped = dropped.join();
        if !std::thread::panicking() {
            dropped.expect("the server is there").expect("the role can be dropped");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_consumer_of_the_docs_reaches_its_inbox_and_nothing_else() {
    let role = ConsumerRole::create().await;
    let database = Database::with_tables(InboxTables::default()).await;
    role.grant(&database).await;
    PostgresInbox::builder(role.url(&database)).build().unwrap().check().await.unwrap();

    let mut conn = connect(&role.url(&database)).await;
    for forbidden in [
        "SELECT * FROM effects",
        "INSERT INTO inbox_schema (version, name) VALUES (99, 'later')",
        "UPDATE inbox_dead_letters SET reason = 'x'",
        "DELETE FROM inbox_horizons",
        "TRUNCATE inbox_messages",
        "DROP TABLE inbox_held",
    ] {
        let error = conn.batch_execute(forbidden).await.expect_err(forbidden).to_string();
        assert!(error.contains("permission denied") || error.contains("must be owner"), "{forbidden}: {error}");
    }
    drop(conn);
    drop(database);
}
