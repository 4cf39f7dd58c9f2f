//! The account of `docs/roles.md`.

use diesel_async::SimpleAsyncConnection;
use outbox_core::inbox::InboxStorage;
use outbox_diesel::inbox::mysql::{MysqlInbox, MysqlInboxBuilder};
use uuid::Uuid;

use crate::database::{Database, connect, server_url};

const PAGE: &str = include_str!("../../../../docs/roles.md");

/// A consumer's account of one test, dropped with this value.
pub(crate) struct ConsumerAccount {
    pub(crate) name: String,
    grants: String,
}

impl ConsumerAccount {
    /// Makes the account as the page does.
    pub(crate) async fn create() -> Self {
        let name = format!("consumer_{}", &Uuid::new_v4().simple().to_string()[..12]);
        let inbox = PAGE.split("\n## The inbox\n").nth(1).expect("the page has the section");
        let mysql = inbox.split("\n### MySQL and MariaDB\n").nth(1).expect("the section has MySQL");
        let sql = mysql.split("```sql\n").nth(1).and_then(|rest| rest.split("```").next()).expect("it has SQL");
        let sql = sql.replace("billing_consumer", &name);
        let (create, grants) = sql.split_once('\n').expect("an account, then its grants");
        connect(&server_url()).await.batch_execute(create).await.expect("a superuser can create an account");
        Self { grants: grants.to_owned(), name }
    }

    /// Grants what the page grants, on the tables of this database.
    pub(crate) async fn grant(&self, database: &Database) {
        let schema = database.tables.schema().unwrap_or(&database.name);
        let tables = format!("{schema}.{}", database.tables.prefix());
        database.batch(&self.grants.replace("shop.inbox_", &tables)).await;
    }

    /// The URL of a database, as this account.
    pub(crate) fn url(&self, database: &Database) -> String {
        database.url_of(&format!("{}:change%20me", self.name))
    }

    /// The inbox of a database, as this account.
    pub(crate) fn inbox(&self, database: &Database) -> MysqlInboxBuilder {
        MysqlInbox::builder(self.url(database)).tables(database.tables.clone())
    }
}

impl Drop for ConsumerAccount {
    fn drop(&mut self) {
        let sql = format!("DROP USER IF EXISTS {}", self.name);
        let dropped = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async { connect(&server_url()).await.batch_execute(&sql).await })
        });
        let dropped = dropped.join();
        if !std::thread::panicking() {
            dropped.expect("the server is there").expect("the account can be dropped");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_consumer_of_the_docs_reaches_its_inbox_and_nothing_else() {
    let account = ConsumerAccount::create().await;
    let database = Database::create().await;
    account.grant(&database).await;
    account.inbox(&database).build().unwrap().check().await.unwrap();

    let mut conn = connect(&account.url(&database)).await;
    for forbidden in [
        "SELECT * FROM effects",
        "INSERT INTO inbox_schema (version, name) VALUES (99, 'later')",
        "UPDATE inbox_dead_letters SET reason = 'x'",
        "DELETE FROM inbox_horizons",
        "TRUNCATE inbox_messages",
        "DROP TABLE inbox_held",
    ] {
        let error = conn.batch_execute(forbidden).await.expect_err(forbidden).to_string();
        assert!(error.contains("command denied"), "{forbidden}: {error}");
    }
}
