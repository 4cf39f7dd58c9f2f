//! Tracked files name no folder of somebody's machine and no private host.

use std::{fs, process::Command, time::Duration};

use anyhow::{Result, bail};

use crate::{folders, run, stages::Outcome};

const LIMIT: Duration = Duration::from_secs(30);
/// The one file that has to spell them.
const OWN_FILE: &str = "xtask/src/commands/lint/traces.rs";
/// Folders of machines and ends of private host names.
const TRACES: [&str; 9] =
    ["/root/", "/home/", "/Users/", "/work/", "/tmp/brief", "../shared", ".internal/", ".internal:", ".corp/"];

pub(super) fn check() -> Result<Outcome> {
    let mut list = Command::new("git");
    // A clone may belong to another account than the one that checks it.
    list.args(["-c", "safe.directory=*", "ls-files", "-z"]).current_dir(folders::workspace());
    let files = run::quiet(&mut list, LIMIT)?;
    let mut found = Vec::new();
    for file in files.split('\0').filter(|file| !file.is_empty() && *file != OWN_FILE) {
        // Files that are no text, or were removed but not yet committed, hold no traces.
        let Ok(text) = fs::read_to_string(folders::workspace().join(file)) else {
            continue;
        };
        for (line, trace) in traces(&text) {
            found.push(format!("{file}:{line}: {trace}"));
        }
    }
    if !found.is_empty() {
        bail!("names of a machine:\n{}", found.join("\n"));
    }
    Ok(Outcome::Passed)
}

fn traces(text: &str) -> impl Iterator<Item = (usize, &'static str)> {
    text.lines().enumerate().flat_map(|(index, line)| {
        TRACES.into_iter().filter(move |trace| begins_a_path(line, trace)).map(move |trace| (index + 1, trace))
    })
}

/// `/home/` counts at the start of a path, not inside one (`docs/home/`).
fn begins_a_path(line: &str, trace: &str) -> bool {
    line.match_indices(trace).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        !trace.starts_with('/') || !before.is_some_and(|c| c.is_alphanumeric() || "_-.}/".contains(c))
    })
}

#[cfg(test)]
mod tests {
    use super::{TRACES, traces};

    #[test]
    fn folders_of_a_machine_and_private_hosts_are_traces() {
        for trace in TRACES {
            let text = format!("fine\ndata = \"{trace}data\"\n");
            assert_eq!(traces(&text).collect::<Vec<_>>(), [(2, trace)]);
        }
    }

    #[test]
    fn folders_inside_a_path_are_not() {
        for trace in TRACES.into_iter().filter(|trace| trace.starts_with('/')) {
            assert_eq!(traces(&format!("see docs{trace}notes")).count(), 0, "{trace}");
        }
    }
}
