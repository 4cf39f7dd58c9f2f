//! What `cargo xtask services up` leaves behind, so that later commands find the servers and end them.

use std::{
    fs::{self, OpenOptions},
    io::Write,
    net::{SocketAddr, TcpStream},
    path::PathBuf,
    time::Duration,
};

use anyhow::{Context, Result, bail};
use rustix::process::Signal;
use serde::{Deserialize, Serialize};

use super::{Kafka, Postgres, compose::Project, control::Control, process::ProcessId};
use crate::folders;

const CONNECT_LIMIT: Duration = Duration::from_secs(2);
const STOP_GRACE: Duration = Duration::from_secs(60);

/// Servers that run in the background.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Background {
    pub(super) postgres_url: String,
    pub(super) postgres_ca: PathBuf,
    pub(super) kafka: String,
    pub(super) postgres_process: Option<ProcessId>,
    pub(super) kafka_process: Option<ProcessId>,
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

    /// Whether both servers accept connections.
    pub fn answers(&self) -> bool {
        let (postgres, kafka) = self.connect();
        [postgres.address(), kafka.bootstrap()].into_iter().all(|address| {
            address
                .parse::<SocketAddr>()
                .is_ok_and(|address| TcpStream::connect_timeout(&address, CONNECT_LIMIT).is_ok())
        })
    }

    /// Process ids of PostgreSQL and Apache Kafka; unknown when they run in containers.
    pub fn pids(&self) -> (Option<u32>, Option<u32>) {
        (self.postgres_process.map(ProcessId::number), self.kafka_process.map(ProcessId::number))
    }

    /// Environment of the tests.
    pub fn environment(&self) -> Vec<(&'static str, String)> {
        super::environment(&self.postgres_url, &self.postgres_ca, &self.kafka)
    }

    /// Ends the servers and removes their data.
    ///
    /// # Errors
    ///
    /// Containers cannot be removed, or the state file cannot.
    pub fn stop(self) -> Result<()> {
        if let Some(kafka) = self.kafka_process {
            kafka.end(Signal::TERM, STOP_GRACE);
        }
        if let Some(postgres) = self.postgres_process {
            postgres.end(Signal::INT, STOP_GRACE);
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

    pub(super) fn connect(&self) -> (Postgres, Kafka) {
        let whose = "`cargo xtask services up`";
        (
            Postgres::new(self.postgres_url.clone(), self.postgres_ca.clone(), Control::Foreign(whose)),
            Kafka::new(self.kafka.clone(), Control::Foreign(whose)),
        )
    }
}

fn file() -> PathBuf {
    folders::services().join("running.json")
}
