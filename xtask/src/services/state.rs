//! What `cargo xtask services up` leaves behind, so that later commands find the servers and end them.

use std::{
    fs::{self, OpenOptions},
    io::Write,
    net::{TcpStream, ToSocketAddrs},
    path::PathBuf,
    time::Duration,
};

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

use super::{
    addresses::{Addresses, host_and_port},
    compose::Project,
    process::Recorded,
};
use crate::folders;

const CONNECT_LIMIT: Duration = Duration::from_secs(2);
const STOP_GRACE: Duration = Duration::from_secs(60);

/// Servers that run in the background.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Background {
    #[serde(flatten)]
    pub(super) addresses: Addresses,
    /// In the order in which they end; none in containers.
    pub(super) servers: Vec<Recorded>,
    pub(super) compose_project: Option<String>,
    pub(super) folders: Vec<PathBuf>,
}

impl Background {
    /// The servers that `cargo xtask services up` started, running or not.
    ///
    /// # Errors
    ///
    /// The state file cannot be read.
    pub fn find() -> Result<Option<Self>> {
        let file = file();
        if !file.exists() {
            return Ok(None);
        }
        let text = fs::read(&file).with_context(|| format!("{}: cannot be read", file.display()))?;
        let found = serde_json::from_slice(&text).with_context(|| format!("{}: not a state file", file.display()))?;
        Ok(Some(found))
    }

    /// Whether all servers accept connections.
    pub fn answers(&self) -> bool {
        let addresses = &self.addresses;
        [&addresses.postgres_url, &addresses.mysql_url, &addresses.kafka, &addresses.amqp].into_iter().all(|url| {
            host_and_port(url)
                .to_socket_addrs()
                .is_ok_and(|mut found| found.any(|found| TcpStream::connect_timeout(&found, CONNECT_LIMIT).is_ok()))
        })
    }

    /// Names and process ids of the servers; none when they run in containers.
    pub fn processes(&self) -> impl Iterator<Item = (&str, u32)> {
        self.servers.iter().map(|server| (server.name.as_str(), server.process.number()))
    }

    /// Environment of the tests.
    pub fn environment(&self) -> Vec<(&'static str, String)> {
        self.addresses.environment()
    }

    /// Ends the servers and removes their data.
    ///
    /// # Errors
    ///
    /// Containers cannot be removed, or the state file cannot.
    pub fn stop(self) -> Result<()> {
        for server in &self.servers {
            server.end(STOP_GRACE);
        }
        if let Some(project) = &self.compose_project {
            Project::named(project).down()?;
        }
        for folder in &self.folders {
            super::remove(folder);
        }
        fs::remove_file(file()).context("state file: cannot be removed")
    }

    /// Refuses when servers are recorded already.
    pub(super) fn refuse_second() -> Result<()> {
        match Self::find()? {
            Some(found) if found.answers() => {
                bail!("services run already; `cargo xtask services status` shows them, `down` ends them")
            }
            // They died, for instance with the machine: what is left of them is removed.
            Some(found) => found.stop(),
            None => Ok(()),
        }
    }

    pub(super) fn save(&self) -> Result<()> {
        let text = serde_json::to_string_pretty(self).context("state")?;
        // `create_new` decides between two commands that run at the same time.
        OpenOptions::new()
            .write(true)
            .create_new(true)
            .open(file())
            .and_then(|mut file| file.write_all(text.as_bytes()))
            .with_context(|| format!("{}: cannot be written", file().display()))
    }
}

fn file() -> PathBuf {
    folders::services().join("running.json")
}
