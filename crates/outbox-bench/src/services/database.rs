use anyhow::{Context, Result};
use tokio_postgres::{Client, Config, NoTls};

use super::unique;

/// A database for one run, so that what PostgreSQL counts by database is the run's own.
#[derive(Debug)]
pub struct Database {
    server: String,
    name: String,
    url: String,
}

impl Database {
    /// Creates it beside the database of `server`, a URL.
    ///
    /// # Errors
    ///
    /// The server cannot be reached or refuses.
    pub async fn create(server: &str) -> Result<Self> {
        let name = unique("db");
        let client = connect(server).await?;
        client.batch_execute(&format!("CREATE DATABASE {name} TEMPLATE template0")).await.context("CREATE DATABASE")?;
        let url = with_database(server, &name)?;
        Ok(Self { server: server.to_owned(), name, url })
    }

    /// Its URL.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// A connection of its own.
    ///
    /// # Errors
    ///
    /// The server cannot be reached.
    pub async fn connect(&self) -> Result<Client> {
        connect(&self.url).await
    }

    /// Drops it with everything in it, whoever is connected.
    ///
    /// # Errors
    ///
    /// The server cannot be reached or refuses.
    pub async fn remove(self) -> Result<()> {
        let client = connect(&self.server).await?;
        client.batch_execute(&format!("DROP DATABASE {} WITH (FORCE)", self.name)).await.context("DROP DATABASE")
    }
}

async fn connect(url: &str) -> Result<Client> {
    let config: Config = url.parse().context("the PostgreSQL URL")?;
    let (client, connection) = config.connect(NoTls).await.context("connecting to PostgreSQL")?;
    tokio::spawn(async move {
        // its error reaches whoever uses the client
        let _ = connection.await;
    });
    Ok(client)
}

fn with_database(url: &str, name: &str) -> Result<String> {
    let (address, options) = url.split_once('?').map_or((url, None), |(address, options)| (address, Some(options)));
    let start = address.find("://").context("the PostgreSQL URL has no scheme")? + 3;
    let end = address[start..].find('/').map_or(address.len(), |slash| start + slash);
    let options = options.map(|options| format!("?{options}")).unwrap_or_default();
    Ok(format!("{}/{name}{options}", &address[..end]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_database_of_a_url_is_replaced_and_its_options_kept() {
        for (url, expected) in [
            ("postgres://u@h:1/postgres", "postgres://u@h:1/x"),
            ("postgres://u@h:1", "postgres://u@h:1/x"),
            ("postgres://u@h:1/p?sslmode=disable", "postgres://u@h:1/x?sslmode=disable"),
        ] {
            assert_eq!(with_database(url, "x").unwrap(), expected);
        }
    }
}
