//! A server that this program starts from an installed program, without a container engine.

use std::{
    fs::{self, OpenOptions},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use anyhow::{Context, Result, bail};
use rustix::process::Signal;

use super::{
    account::Account,
    guard::Guard,
    process::{ProcessId, Recorded},
};
use crate::{deadline, run};

const READY_LIMIT: Duration = Duration::from_secs(90);
const STOP_GRACE: Duration = Duration::from_secs(60);
const PROBE_LIMIT: Duration = Duration::from_secs(5);
const LOG_TAIL_LINES: usize = 20;

/// How to run a server.
#[derive(Debug, Clone)]
pub(crate) struct Launch {
    pub(crate) name: &'static str,
    pub(crate) program: PathBuf,
    pub(crate) arguments: Vec<String>,
    /// Added to the environment of this program.
    pub(crate) environment: Vec<(&'static str, String)>,
    pub(crate) account: Account,
    /// Its data, removed when this program dies without cleaning up.
    pub(crate) folder: PathBuf,
    pub(crate) log: PathBuf,
    /// Ends it in order.
    pub(crate) stop: Signal,
    /// Ends it at once, as a crash would.
    pub(crate) crash: Signal,
    pub(crate) ready: Ready,
}

/// How a server shows that it answers.
#[derive(Debug, Clone)]
pub(crate) enum Ready {
    /// This command succeeds.
    Command(PathBuf, Vec<String>),
    /// Its log says this, after the start.
    Log(&'static str),
}

/// One server and, while it runs, its process.
#[derive(Debug)]
pub(crate) struct NativeServer {
    launch: Launch,
    running: Option<Running>,
}

#[derive(Debug)]
struct Running {
    process: ProcessId,
    child: Child,
    guard: Guard,
}

impl NativeServer {
    /// Starts the server and waits until it answers.
    pub(crate) fn start(launch: Launch) -> Result<Self> {
        let mut server = Self { launch, running: None };
        server.resume()?;
        Ok(server)
    }

    /// Starts it again after [`NativeServer::stop`] or [`NativeServer::crash`], with the same ports and data.
    pub(crate) fn resume(&mut self) -> Result<()> {
        if self.running.is_some() {
            return Ok(());
        }
        let launch = &self.launch;
        let log = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&launch.log)
            .with_context(|| format!("{}: cannot be written", launch.log.display()))?;
        let seen = log.metadata().map_or(0, |log| log.len());
        let errors = log.try_clone().context("log file")?;
        let child = launch
            .account
            .command(&launch.program)
            .args(&launch.arguments)
            .env("LC_ALL", "C")
            .envs(launch.environment.iter().map(|(name, value)| (*name, value)))
            .current_dir(&launch.folder)
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(errors)
            .process_group(0) // a Ctrl-C in the terminal is not for it: this program ends it
            .spawn()
            .with_context(|| format!("{}: cannot be started", launch.program.display()))?;
        let process = ProcessId::of(child.id());
        let guard = Guard::watch(process, signal_name(launch.stop), &launch.folder).inspect_err(|_| {
            process.end(Signal::KILL, STOP_GRACE);
        })?;
        self.running = Some(Running { process, child, guard });
        let crash = launch.crash;
        self.wait_ready(seen).inspect_err(|_| self.end(crash))
    }

    /// Process id while it runs.
    pub(crate) fn process(&self) -> Option<ProcessId> {
        self.running.as_ref().map(|running| running.process)
    }

    /// What a later program needs to end it.
    pub(crate) fn recorded(&self) -> Option<Recorded> {
        let process = self.process()?;
        Some(Recorded { name: self.launch.name.to_owned(), process, stop_signal: self.launch.stop.as_raw() })
    }

    /// Ends it in order and waits for its end.
    pub(crate) fn stop(&mut self) {
        self.end(self.launch.stop);
    }

    /// Ends it at once, without a chance to write anything, and waits for its end.
    pub(crate) fn crash(&mut self) {
        self.end(self.launch.crash);
    }

    /// Lets it run on after this program.
    pub(crate) fn detach(&mut self) {
        if let Some(running) = self.running.take() {
            running.guard.dismiss();
        }
    }

    fn end(&mut self, signal: Signal) {
        if let Some(mut running) = self.running.take() {
            running.process.end(signal, STOP_GRACE);
            // It has ended: this only collects it.
            let _ = running.child.wait();
            running.guard.dismiss();
        }
    }

    fn wait_ready(&mut self, seen: u64) -> Result<()> {
        let Some(running) = &mut self.running else {
            return Ok(());
        };
        let launch = &self.launch;
        let what = format!("{} is ready", launch.name);
        let ready = deadline::wait(&what, READY_LIMIT, || {
            if let Some(status) = running.child.try_wait().context("server process")? {
                bail!("{} ended: {status}", launch.name);
            }
            Ok(launch.is_ready(seen).then_some(()))
        });
        ready.with_context(|| {
            format!("{} did not start; the end of {}:\n{}", launch.name, launch.log.display(), tail(&launch.log))
        })
    }
}

impl Drop for NativeServer {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Launch {
    fn is_ready(&self, seen: u64) -> bool {
        match &self.ready {
            Ready::Command(program, arguments) => run::works(Command::new(program).args(arguments), PROBE_LIMIT),
            Ready::Log(text) => fs::read(&self.log).is_ok_and(|log| {
                let fresh = log.get(usize::try_from(seen).unwrap_or_default()..).unwrap_or_default();
                String::from_utf8_lossy(fresh).contains(text)
            }),
        }
    }
}

fn signal_name(signal: Signal) -> &'static str {
    match signal {
        Signal::INT => "INT",
        Signal::QUIT => "QUIT",
        Signal::KILL => "KILL",
        _ => "TERM",
    }
}

fn tail(log: &Path) -> String {
    let text = fs::read(log).map(|log| String::from_utf8_lossy(&log).into_owned()).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(LOG_TAIL_LINES)..].join("\n")
}

#[cfg(test)]
mod tests;
