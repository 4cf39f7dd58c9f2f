//! Ends a server when this program dies without cleaning up (`kill -9`, a crash).

use std::{
    io::Write,
    os::unix::process::CommandExt,
    path::Path,
    process::{Child, Command, Stdio},
};

use anyhow::{Context, Result};

use super::process::ProcessId;

/// A shell that waits on a pipe. A line means that all is well; the end of the pipe without one means that this
/// program is gone, whatever ended it.
const SCRIPT: &str = r#"
if read -r _; then exit 0; fi
kill -s "$1" "$2" 2>/dev/null
tries=0
while kill -0 "$2" 2>/dev/null && [ "$tries" -lt 100 ]; do sleep 0.1; tries=$((tries + 1)); done
kill -s KILL "$2" 2>/dev/null
rm -rf -- "$3"
"#;

/// Keeps a server from outliving this program.
#[derive(Debug)]
pub(crate) struct Guard {
    shell: Child,
}

impl Guard {
    /// Watches over `server`; `folder` is its data, removed after it.
    pub(crate) fn watch(server: ProcessId, stop_signal: &str, folder: &Path) -> Result<Self> {
        let shell = Command::new("sh")
            .args(["-c", SCRIPT, "sh", stop_signal])
            .arg(server.number().to_string())
            .arg(folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0) // a Ctrl-C in the terminal is not for it
            .spawn()
            .context("sh: cannot be started")?;
        Ok(Self { shell })
    }

    /// The server has ended, or shall stay: nothing to watch any more.
    pub(crate) fn dismiss(mut self) {
        if let Some(mut pipe) = self.shell.stdin.take() {
            // Fails only when the shell was ended from outside.
            let _ = pipe.write_all(b"\n");
        }
        let _ = self.shell.wait();
    }
}
