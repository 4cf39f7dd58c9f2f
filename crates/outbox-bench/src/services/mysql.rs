use anyhow::{Context, Result};
use mysql_async::Conn;
use mysql_async::prelude::Queryable as _;
use outbox::migrations::{self, Backend};
use outbox::{MysqlStorage, Tables};

use super::{MysqlCounters, Topic, unique};
use crate::workload::Workload;

/// A database with an outbox on a MySQL or MariaDB server, and an account of its own for relays: the server counts by account.
#[derive(Debug)]
pub struct MysqlDatabase {
    client: Conn,
    name: String,
    account: String,
    url: String,
    tables: Tables,
}

impl MysqlDatabase {
    /// Creates it on the server that a superuser's URL names.
    ///
    /// # Errors
    ///
    /// The server cannot be reached or refuses.
    pub async fn create(server: &str) -> Result<Self> {
        let name = unique("db");
        let account: String = name.chars().take(ACCOUNT_CHARS).collect();
        let password = unique("password");
        let mut client = Conn::from_url(with_database(server, "", None)?).await.context("connecting to MySQL")?;
        MysqlCounters::switch_on(&mut client).await?;
        let create = [
            format!("CREATE DATABASE {name}"),
            format!("CREATE USER {account} IDENTIFIED BY '{password}'"),
            format!("GRANT ALL ON {name}.* TO {account}"),
            format!("USE {name}"),
        ];
        for statement in create {
            client.query_drop(statement).await.context("creating a database and an account")?;
        }
        let url = with_database(server, &name, Some(&format!("{account}:{password}")))?;
        let tables = Tables::new(None, "outbox_")?.for_backend(Backend::Mysql);
        let mut connection = outbox::mysql::establish(&with_database(server, &name, None)?).await?;
        migrations::mysql::up(&mut connection, &tables, migrations::EXPECTED_VERSION).await?;
        Ok(Self { client, name, account, url, tables })
    }

    /// A superuser's connection.
    pub fn client(&mut self) -> &mut Conn {
        &mut self.client
    }

    /// The names of the tables.
    pub fn tables(&self) -> &Tables {
        &self.tables
    }

    /// The storage of a relay, with connections of its own.
    ///
    /// # Errors
    ///
    /// The URL is none.
    pub fn storage(&self) -> Result<MysqlStorage> {
        Ok(MysqlStorage::builder(&self.url).tables(self.tables.clone()).build()?)
    }

    /// A connection of the relays' account.
    ///
    /// # Errors
    ///
    /// The server cannot be reached.
    pub async fn connect(&self) -> Result<Conn> {
        Conn::from_url(&self.url).await.context("connecting to MySQL")
    }

    /// Appends a workload to an empty outbox and brings its statistics up to date.
    ///
    /// # Errors
    ///
    /// The server refuses.
    pub async fn seed(&mut self, workload: &Workload, topic: &Topic) -> Result<()> {
        let table = self.tables.messages().to_owned();
        self.fill(&table, &workload.mysql_insert(&table, topic.name())).await
    }

    /// Fills an empty table with one statement and brings its statistics up to date.
    ///
    /// # Errors
    ///
    /// The server refuses.
    pub async fn fill(&mut self, table: &str, insert: &str) -> Result<()> {
        self.client.query_drop(insert).await.context("seeding")?;
        self.client.query_drop(format!("ANALYZE TABLE {table}")).await.context("ANALYZE")
    }

    /// What the server has counted for the relays' account.
    ///
    /// # Errors
    ///
    /// The server cannot be reached, or does not count.
    pub async fn counters(&mut self) -> Result<MysqlCounters> {
        MysqlCounters::read(&mut self.client, &self.account).await
    }

    /// Drops it with everything in it, and the account.
    ///
    /// # Errors
    ///
    /// The server cannot be reached or refuses.
    pub async fn remove(mut self) -> Result<()> {
        self.client.query_drop(format!("DROP USER {}", self.account)).await.context("DROP USER")?;
        self.client.query_drop(format!("DROP DATABASE {}", self.name)).await.context("DROP DATABASE")?;
        Ok(self.client.disconnect().await?)
    }
}

/// MySQL takes no longer names of accounts.
const ACCOUNT_CHARS: usize = 32;

/// The URL with another database, and another account when one is given.
fn with_database(url: &str, name: &str, account: Option<&str>) -> Result<String> {
    let (address, options) = url.split_once('?').map_or((url, None), |(address, options)| (address, Some(options)));
    let (scheme, rest) = address.split_once("://").context("the MySQL URL has no scheme")?;
    let authority = rest.split_once('/').map_or(rest, |(authority, _)| authority);
    let (user, host) = authority.rsplit_once('@').unwrap_or(("root", authority));
    let options = options.map(|options| format!("?{options}")).unwrap_or_default();
    Ok(format!("{scheme}://{}@{host}/{name}{options}", account.unwrap_or(user)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn database_and_account_of_a_url_are_replaced() {
        for (url, account, expected) in [
            ("mysql://root@h:1", None, "mysql://root@h:1/x"),
            ("mysql://root:p@h:1/mysql", Some("a:b"), "mysql://a:b@h:1/x"),
            ("mysql://h:1/?o=1", Some("a:b"), "mysql://a:b@h:1/x?o=1"),
        ] {
            assert_eq!(with_database(url, "x", account).unwrap(), expected);
        }
    }
}
