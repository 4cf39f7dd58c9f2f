//! Child programs that a task waits for: cargo, apt-get, Maven.

use std::{
    env,
    os::unix::process::CommandExt,
    process::{Child, Command, ExitStatus, Output, Stdio},
    thread,
    time::Duration,
};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process_group};

use crate::{deadline, interrupt};

const PAUSE: Duration = Duration::from_millis(20);
/// How long a child may take to end after it was asked to, before it is killed.
const GRACE: Duration = Duration::from_secs(10);

/// The cargo that runs this task, without the variables that `cargo run` set for it: some build scripts run again
/// when those change.
pub fn cargo() -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    for (name, _) in env::vars_os() {
        let foreign = name.to_str().is_some_and(|name| {
            name.starts_with("CARGO_PKG_")
                || name.starts_with("CARGO_MANIFEST_")
                || name.starts_with("CARGO_BIN_")
                || matches!(name, "CARGO_CRATE_NAME" | "CARGO_PRIMARY_PACKAGE" | "OUT_DIR")
        });
        if foreign {
            command.env_remove(name);
        }
    }
    command.current_dir(crate::folders::workspace());
    command
}

/// Runs a program to its end with the terminal's output and no input.
///
/// The child has a process group of its own. Ctrl-C and SIGTERM are passed on to that whole group, so grandchildren
/// end too; a second one kills it.
///
/// # Errors
///
/// The program cannot be started.
pub fn status(command: &mut Command) -> Result<ExitStatus> {
    let name = name(command);
    let mut child =
        command.stdin(Stdio::null()).process_group(0).spawn().with_context(|| format!("{name}: cannot be started"))?;
    supervise(&mut child).with_context(|| format!("{name}: cannot be waited for"))
}

/// Like [`status`], and a failure of the program is an error.
///
/// # Errors
///
/// The program cannot be started, failed, or was interrupted.
pub fn succeed(command: &mut Command) -> Result<()> {
    let status = status(command)?;
    interrupt::check()?;
    if !status.success() {
        bail!("{}: {status}", line(command));
    }
    Ok(())
}

/// Runs a program without showing its output, at most for `limit`; what it printed is part of the error.
///
/// # Errors
///
/// The program cannot be started, failed, or took too long.
pub fn quiet(command: &mut Command, limit: Duration) -> Result<String> {
    let output = captured(command, limit)?;
    if !output.status.success() {
        let printed = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        bail!("{}: {}\n{}", line(command), output.status, printed.trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Whether a program is there and succeeds within `limit`.
pub fn works(command: &mut Command, limit: Duration) -> bool {
    captured(command, limit).is_ok_and(|output| output.status.success())
}

/// Runs a program and keeps what it prints.
///
/// # Errors
///
/// The program cannot be started or took longer than `limit`.
pub fn captured(command: &mut Command, limit: Duration) -> Result<Output> {
    let name = name(command);
    let child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .spawn()
        .with_context(|| format!("{name}: cannot be started"))?;
    let group = group(&child);
    // The pipes are drained on a thread: a program that prints more than a pipe holds would never end otherwise.
    let reader = thread::spawn(move || child.wait_with_output());
    let ended = deadline::wait(&name, limit, || Ok(reader.is_finished().then_some(())));
    if let Err(error) = ended {
        signal(group, Signal::KILL);
        let _ = reader.join();
        return Err(error);
    }
    match reader.join() {
        Ok(output) => output.with_context(|| format!("{name}: output cannot be read")),
        Err(_) => bail!("{name}: output cannot be read"),
    }
}

fn supervise(child: &mut Child) -> std::io::Result<ExitStatus> {
    let group = group(child);
    let mut passed_on = interrupt::requests();
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(status);
        }
        let requests = interrupt::requests();
        if requests > passed_on {
            let first = passed_on == 0;
            passed_on = requests;
            if first {
                signal(group, Signal::INT);
                deadline::settles(GRACE, || interrupt::requests() > passed_on || !matches!(child.try_wait(), Ok(None)));
            }
            signal(group, Signal::KILL);
        }
        thread::sleep(PAUSE);
    }
}

fn group(child: &Child) -> Option<Pid> {
    i32::try_from(child.id()).ok().and_then(Pid::from_raw)
}

fn signal(group: Option<Pid>, signal: Signal) {
    if let Some(group) = group {
        // Fails only when the group is gone already.
        let _ = kill_process_group(group, signal);
    }
}

fn name(command: &Command) -> String {
    command.get_program().to_string_lossy().into_owned()
}

fn line(command: &Command) -> String {
    let words = command.get_args().map(|word| word.to_string_lossy().into_owned());
    [name(command)].into_iter().chain(words).collect::<Vec<_>>().join(" ")
}
