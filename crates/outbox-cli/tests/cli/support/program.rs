use std::{
    io::Read,
    process::{Child, Command, ExitStatus, Output, Stdio},
    sync::{Arc, Mutex},
    thread::JoinHandle,
};

use super::eventually;

/// The built command, with an environment of its own.
pub(crate) fn outbox(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_outbox"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("OUTBOX") {
            command.env_remove(name);
        }
    }
    command.args(arguments).stdin(Stdio::null());
    command
}

/// What a command that has ended left behind.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) status: ExitStatus,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Ended {
    /// Both streams, for assertions about what must not be printed.
    pub(crate) fn everything(&self) -> String {
        format!("{}{}", self.stdout, self.stderr)
    }
}

impl From<Output> for Ended {
    fn from(output: Output) -> Self {
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("output is UTF-8");
        Self { status: output.status, stdout: text(output.stdout), stderr: text(output.stderr) }
    }
}

/// Runs the command to its end.
pub(crate) fn run(arguments: &[&str]) -> Ended {
    outbox(arguments).output().expect("the command starts").into()
}

/// Runs a command that must succeed.
pub(crate) fn succeed(command: &mut Command) -> String {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command.output().unwrap_or_else(|error| panic!("{name} does not start: {error}"));
    let ended = Ended::from(output);
    assert!(ended.status.success(), "{name} failed: {}", ended.everything());
    ended.stdout
}

/// A command in the background; it is killed when dropped.
pub(crate) struct Background {
    child: Child,
    log: Arc<Mutex<String>>,
    reader: Option<JoinHandle<()>>,
}

impl Background {
    /// Starts the command and collects what it logs.
    pub(crate) fn start(arguments: &[&str]) -> Self {
        let mut child =
            outbox(arguments).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("the command starts");
        let mut stderr = child.stderr.take().expect("standard error is piped");
        let log = Arc::new(Mutex::new(String::new()));
        let writer = log.clone();
        let reader = std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(read @ 1..) = stderr.read(&mut buffer) {
                writer.lock().unwrap().push_str(&String::from_utf8_lossy(&buffer[..read]));
            }
        });
        Self { child, log, reader: Some(reader) }
    }

    /// What it has logged so far.
    pub(crate) fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    /// Waits until it has logged this.
    pub(crate) fn logged(&self, text: &str) {
        eventually(&format!("the log says {text:?}"), || self.log().contains(text).then_some(()));
    }

    /// Sends a signal, by name as `kill` knows it.
    pub(crate) fn signal(&self, name: &str) {
        // the shell's own `kill`: a bare machine has no program of that name
        succeed(Command::new("sh").args(["-c", &format!("kill -s {name} {}", self.child.id())]));
    }

    /// Waits for its end.
    pub(crate) fn ended(mut self) -> (ExitStatus, String) {
        let status = eventually("the command ends", || self.child.try_wait().expect("the command can be waited for"));
        if let Some(reader) = self.reader.take() {
            reader.join().expect("the log can be read");
        }
        (status, self.log())
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
