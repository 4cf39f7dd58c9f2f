//! A server process: identified beyond doubt, asked to end by a signal.

use std::{fs, time::Duration};

use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use serde::{Deserialize, Serialize};

use crate::{deadline, interrupt};

/// A process that this program may signal, and only that one: a reused id has another start time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessId {
    pid: i32,
    /// Start time in the kernel's clock ticks since boot; unknown where there is no `/proc`.
    started_ticks: Option<u64>,
}

impl ProcessId {
    /// The process that has this id now.
    pub(crate) fn of(pid: u32) -> Self {
        let pid = i32::try_from(pid).unwrap_or(i32::MAX);
        Self { pid, started_ticks: stat(pid).map(|(_, started)| started) }
    }

    /// The id as a number.
    pub fn number(self) -> u32 {
        self.pid.unsigned_abs()
    }

    /// Whether it still runs. A process that ended and was not yet collected by its parent counts as ended.
    pub fn runs(self) -> bool {
        let Some(pid) = Pid::from_raw(self.pid) else {
            return false;
        };
        match (self.started_ticks, stat(self.pid)) {
            (Some(started), Some((state, found))) => found == started && !matches!(state, 'Z' | 'X'),
            (Some(_), None) => false,
            (None, _) => test_kill_process(pid).is_ok(),
        }
    }

    /// Sends a signal, and nothing when the process has ended.
    pub(crate) fn signal(self, signal: Signal) {
        if self.runs()
            && let Some(pid) = Pid::from_raw(self.pid)
        {
            // Fails only when the process ended in between.
            let _ = kill_process(pid, signal);
        }
    }

    /// Asks the process to end and waits; kills it when it does not within `grace`, or at the user's second Ctrl-C.
    pub(crate) fn end(self, signal: Signal, grace: Duration) {
        self.signal(signal);
        deadline::settles(grace, || !self.runs() || interrupt::requests() > 1);
        if self.runs() {
            self.signal(Signal::KILL);
            deadline::settles(grace, || !self.runs());
        }
    }
}

/// A server process of an earlier program.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Recorded {
    /// What it is.
    pub(crate) name: String,
    /// Where it runs.
    pub(crate) process: ProcessId,
    /// The number of the signal that ends it in order.
    pub(crate) stop_signal: i32,
}

impl Recorded {
    /// Ends it in order and waits; kills it when it does not end within `grace`.
    pub(crate) fn end(&self, grace: Duration) {
        self.process.end(Signal::from_named_raw(self.stop_signal).unwrap_or(Signal::TERM), grace);
    }
}

/// State and start time of a process, from `/proc`.
fn stat(pid: i32) -> Option<(char, u64)> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The program's name, in parentheses, may itself hold blanks and parentheses.
    let mut fields = text[text.rfind(')')? + 1..].split_whitespace();
    let state = fields.next()?.chars().next()?;
    let started = fields.nth(18)?.parse().ok()?;
    Some((state, started))
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn an_ended_process_does_not_run_even_before_it_is_collected() {
        let mut child = Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::null()).spawn().expect("cat starts");
        let process = ProcessId::of(child.id());
        assert!(process.runs());
        process.end(Signal::TERM, Duration::from_secs(10));
        assert!(!process.runs());
        child.wait().expect("the child is collected");
    }

    #[test]
    fn a_reused_id_is_not_the_process() {
        let me = ProcessId::of(std::process::id());
        assert!(me.runs());
        let earlier = ProcessId { started_ticks: Some(1), ..me };
        assert!(!earlier.runs());
    }
}
