use std::{path::PathBuf, sync::Arc, time::Duration};

use anyhow::Result;
use serde::{Deserialize, Serialize};

use crate::{options::Unroutable, process::RoleProcess};

/// Where the relays of a run find everything.
#[derive(Debug, Clone)]
pub(crate) struct Surroundings {
    pub(crate) database: String,
    pub(crate) broker: String,
    pub(crate) unroutable: Unroutable,
    pub(crate) lease: Duration,
    pub(crate) max_in_flight: usize,
    /// Names of the ordering keys.
    pub(crate) keys: Arc<[String]>,
    /// Events that are committed at once right before a fault.
    pub(crate) burst: u64,
    /// Folder of the relays' logs.
    pub(crate) folder: PathBuf,
}

/// What a relay says of itself, one line of JSON at a time.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct RelayTally {
    pub(crate) published: u64,
    pub(crate) settled: u64,
    pub(crate) swept: u64,
    pub(crate) lost_leases: u64,
    pub(crate) sessions: u64,
    pub(crate) dead: u64,
    pub(crate) retried: u64,
    /// What its health says is wrong.
    pub(crate) health: Vec<String>,
}

impl Surroundings {
    /// Starts a relay.
    pub(crate) fn start_relay(&self, name: &str) -> Result<RoleProcess> {
        let arguments = [
            "relay",
            "--name",
            name,
            "--database",
            &self.database,
            "--broker",
            &self.broker,
            "--unroutable",
            unroutable(self.unroutable),
            "--lease",
            &format!("{}ms", self.lease.as_millis()),
            "--max-in-flight",
            &self.max_in_flight.to_string(),
        ];
        RoleProcess::start(name, &self.folder, &arguments.map(str::to_owned))
    }
}

/// The policy as an argument.
fn unroutable(policy: Unroutable) -> &'static str {
    match policy {
        Unroutable::Pause => "pause",
        Unroutable::Reject => "reject",
    }
}
