use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, Stdio},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};
use serde::{Deserialize, Serialize};
use xtask::deadline;

use crate::options::Unroutable;

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

/// A relay process. Dropping it kills it.
#[derive(Debug)]
pub(crate) struct RelayProcess {
    child: Child,
    /// Held open: its end tells the relay that this program is gone.
    _lifeline: Option<ChildStdin>,
    name: String,
    output: PathBuf,
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

impl RelayProcess {
    /// Starts a relay: this very program in its other role. Must be called from the main thread, whose end ends the relay.
    pub(crate) fn start(name: &str, surroundings: &Surroundings) -> Result<Self> {
        let program = std::env::current_exe().context("this program's own path")?;
        let output = surroundings.folder.join(format!("{name}.stats"));
        let log = File::create(surroundings.folder.join(format!("{name}.log"))).context("the log of a relay")?;
        let mut child = Command::new(program)
            .args(["relay", "--name", name, "--database", &surroundings.database, "--broker", &surroundings.broker])
            .args(["--unroutable", unroutable(surroundings.unroutable)])
            .args(["--lease", &format!("{}ms", surroundings.lease.as_millis())])
            .args(["--max-in-flight", &surroundings.max_in_flight.to_string()])
            .stdin(Stdio::piped())
            .stdout(File::create(&output).context("the statistics of a relay")?)
            .stderr(log)
            .spawn()
            .context("a relay cannot be started")?;
        let lifeline = child.stdin.take();
        Ok(Self { child, _lifeline: lifeline, name: name.to_owned(), output })
    }

    /// The name in the relays' table.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Ends it at once: `kill -9`.
    pub(crate) fn kill(&mut self) -> Result<()> {
        self.child.kill().with_context(|| format!("{}: cannot be killed", self.name))?;
        self.child.wait().with_context(|| format!("{}: cannot be waited for", self.name))?;
        Ok(())
    }

    /// Sends it a signal, for example to freeze it.
    pub(crate) fn signal(&self, signal: Signal) -> Result<()> {
        kill_process(Pid::from_child(&self.child), signal)
            .with_context(|| format!("{}: cannot be signalled", self.name))
    }

    /// Fails when it has ended by itself.
    pub(crate) fn check(&mut self) -> Result<()> {
        match self.child.try_wait().with_context(|| format!("{}: cannot be looked at", self.name))? {
            Some(status) => bail!("{} ended by itself: {status}; see its log", self.name),
            None => Ok(()),
        }
    }

    /// Asks it to drain and waits for its end.
    pub(crate) fn shut_down(&mut self, limit: Duration) -> Result<()> {
        self.check()?;
        self.signal(Signal::TERM)?;
        let child = &mut self.child;
        let status = deadline::wait("the relay drains", limit, || Ok(child.try_wait()?))?;
        if !status.success() {
            bail!("{} drained badly: {status}; see its log", self.name);
        }
        Ok(())
    }

    /// The last numbers that it wrote; zeros when it never did.
    pub(crate) fn tally(&self) -> RelayTally {
        last_tally(&self.output)
    }
}

impl Drop for RelayProcess {
    fn drop(&mut self) {
        // Both fail only when it has ended and was collected.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The policy as an argument.
fn unroutable(policy: Unroutable) -> &'static str {
    match policy {
        Unroutable::Pause => "pause",
        Unroutable::Reject => "reject",
    }
}

/// A line may be cut off by the end of its writer, so the last whole one counts.
fn last_tally(path: &Path) -> RelayTally {
    let text = fs::read_to_string(path).unwrap_or_default();
    text.lines().rev().find_map(|line| serde_json::from_str(line).ok()).unwrap_or_default()
}
