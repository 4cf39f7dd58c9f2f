use std::{
    io::Read,
    process::{Child, Command, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

use super::DEADLINE;

/// A program that runs; it is killed when dropped.
pub(crate) struct Program {
    name: &'static str,
    child: Child,
}

impl Program {
    pub(super) fn start(name: &'static str, variables: &[(&str, &String)]) -> Self {
        let path = match name {
            "orders" => env!("CARGO_BIN_EXE_orders"),
            "billing" => env!("CARGO_BIN_EXE_billing"),
            "ledger" => env!("CARGO_BIN_EXE_ledger"),
            other => panic!("there is no program {other}"),
        };
        let mut command = Command::new(path);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        command.envs(variables.iter().map(|(variable, value)| (*variable, value.as_str())));
        Self { name, child: command.spawn().expect("the program starts") }
    }

    /// Ends it as a crash does.
    pub(crate) fn kill(mut self) {
        let running = self.child.try_wait().expect("the program can be waited for").is_none();
        assert!(running, "{} has ended before it was killed", self.name);
        self.child.kill().expect("the program can be killed");
    }

    /// Waits for its end, and for a good one.
    pub(crate) fn succeeds(mut self) {
        let deadline = Instant::now() + DEADLINE;
        let status = loop {
            if let Some(status) = self.child.try_wait().expect("the program can be waited for") {
                break status;
            }
            assert!(Instant::now() < deadline, "{} still runs after {} s", self.name, DEADLINE.as_secs());
            sleep(Duration::from_millis(20));
        };
        let mut said = String::new();
        let stderr = self.child.stderr.as_mut().expect("standard error is piped");
        stderr.read_to_string(&mut said).expect("standard error is text");
        assert!(status.success(), "{}: {status}: {said}", self.name);
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
