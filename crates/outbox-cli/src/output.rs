//! Writing to standard output without the panic of `println!` when the reader has gone (`outbox demo | head`).

use std::io::{IsTerminal, Write, stdout};

/// Writes a line.
pub(crate) fn line(text: impl AsRef<str>) {
    // A reader that has gone wants nothing more; the exit code still tells the result.
    let _ = writeln!(stdout().lock(), "{}", text.as_ref());
}

/// Whether a person looks at standard output: control characters are for terminals only.
pub(crate) fn is_terminal() -> bool {
    stdout().is_terminal() && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
}
