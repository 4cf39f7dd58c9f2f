//! Processes of this very program in another role.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, Stdio},
    time::Duration,
};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};
use serde::de::DeserializeOwned;
use xtask::deadline;

/// A relay or a consumer. Dropping it kills it.
#[derive(Debug)]
pub(crate) struct RoleProcess {
    child: Child,
    /// Held open: its end tells the process that this program is gone.
    _lifeline: Option<ChildStdin>,
    name: String,
    output: PathBuf,
}

impl RoleProcess {
    /// Starts this program as `arguments` say, with its log in `folder`. Must be called from the main thread, whose end ends the process.
    pub(crate) fn start(name: &str, folder: &Path, arguments: &[String]) -> Result<Self> {
        let program = std::env::current_exe().context("this program's own path")?;
        let output = folder.join(format!("{name}.stats"));
        let log = File::create(folder.join(format!("{name}.log"))).with_context(|| format!("the log of {name}"))?;
        let mut child = Command::new(program)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(File::create(&output).with_context(|| format!("the statistics of {name}"))?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("{name}: cannot be started"))?;
        let lifeline = child.stdin.take();
        Ok(Self { child, _lifeline: lifeline, name: name.to_owned(), output })
    }

    /// Its name: of its logs, and where it has one in the database, there.
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

    /// Whether it has ended.
    pub(crate) fn has_ended(&mut self) -> Result<bool> {
        let status = self.child.try_wait().with_context(|| format!("{}: cannot be looked at", self.name))?;
        Ok(status.is_some())
    }

    /// Asks it to drain and waits for its end.
    pub(crate) fn shut_down(&mut self, limit: Duration) -> Result<()> {
        self.check()?;
        self.signal(Signal::TERM)?;
        self.drained(limit)
    }

    /// Waits for the end of a process that was asked to drain.
    pub(crate) fn drained(&mut self, limit: Duration) -> Result<()> {
        let child = &mut self.child;
        let status = deadline::wait(&format!("{} drains", self.name), limit, || Ok(child.try_wait()?))?;
        if !status.success() {
            bail!("{} drained badly: {status}; see its log", self.name);
        }
        Ok(())
    }

    /// The last numbers that it wrote; zeros when it never did.
    pub(crate) fn tally<T: DeserializeOwned + Default>(&self) -> T {
        last_tally(&self.output)
    }
}

impl Drop for RoleProcess {
    fn drop(&mut self) {
        // Both fail only when it has ended and was collected.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A line may be cut off by the end of its writer, so the last whole one counts.
fn last_tally<T: DeserializeOwned + Default>(path: &Path) -> T {
    let text = fs::read_to_string(path).unwrap_or_default();
    text.lines().rev().find_map(|line| serde_json::from_str(line).ok()).unwrap_or_default()
}
