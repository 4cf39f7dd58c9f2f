//! The command line.

use clap::{Command, CommandFactory, FromArgMatches, Parser, Subcommand, error::ErrorKind};

use crate::{demo::Demo, migrate::Migrate, relay::RelayCommand, secrets::redact_urls};

/// The transactional outbox: commit events with your data, deliver every one, in order
#[derive(Parser, Debug)]
#[command(name = "outbox", version, propagate_version = true, max_term_width = 100)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Subcommands,
}

#[derive(Subcommand, Debug)]
pub(crate) enum Subcommands {
    Demo(Demo),
    Relay(Box<RelayCommand>),
    Migrate(Migrate),
}

/// A command line that cannot be used.
pub(crate) struct Rejected {
    /// What to print, without secrets.
    pub(crate) text: String,
    /// Help and version go to standard output with success, errors to standard error.
    pub(crate) is_error: bool,
}

/// Reads the command line and the environment.
pub(crate) fn parse(arguments: impl IntoIterator<Item = std::ffi::OsString>) -> Result<Cli, Rejected> {
    let arguments: Vec<_> = arguments.into_iter().collect();
    if let Some(text) = unknown_variables() {
        return Err(Rejected { text, is_error: true });
    }
    let parsed = Cli::command().try_get_matches_from(&arguments).and_then(|matches| Cli::from_arg_matches(&matches));
    parsed.map_err(|error| reject(&error))
}

fn reject(error: &clap::Error) -> Rejected {
    let is_error = error.use_stderr();
    if !is_error {
        return Rejected { text: error.to_string(), is_error };
    }
    // Arguments are repeated in the messages, and one of them may be a URL with a password.
    let mut text = redact_urls(&error.render().to_string());
    if error.kind() == ErrorKind::ValueValidation
        && let Some(variable) = variable_of(&text)
    {
        text.push_str(&format!("\nThe value may come from the environment variable {variable}.\n"));
    }
    Rejected { text, is_error }
}

/// The variable behind the flag that an error names, when it is set.
fn variable_of(text: &str) -> Option<String> {
    let command = Cli::command();
    let flags = command.get_subcommands().flat_map(Command::get_arguments);
    let mut named = flags.filter(|flag| flag.get_long().is_some_and(|long| text.contains(&format!("'--{long} "))));
    named.find_map(|flag| {
        flag.get_env().filter(|name| std::env::var_os(name).is_some()).and_then(|name| name.to_str()).map(str::to_owned)
    })
}

/// Refuses variables that nothing reads: a typo would otherwise run with a default in silence.
fn unknown_variables() -> Option<String> {
    let known = known_variables();
    let unknown: Vec<String> = std::env::vars_os()
        .filter_map(|(name, _)| name.into_string().ok())
        .filter(|name| name.starts_with("OUTBOX__") && !known.contains(name))
        .collect();
    let name = unknown.first()?;
    Some(format!("error: the environment variable {name} is not known; allowed: {}\n", known.join(", ")))
}

fn known_variables() -> Vec<String> {
    fn collect(command: &Command, known: &mut Vec<String>) {
        known.extend(command.get_arguments().filter_map(|argument| argument.get_env()?.to_str().map(str::to_owned)));
        command.get_subcommands().for_each(|command| collect(command, known));
    }
    let mut known = Vec::new();
    collect(&Cli::command(), &mut known);
    known.sort_unstable();
    known.dedup();
    known
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_definition_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_key_of_the_relay_has_its_environment_variable() {
        let command = Cli::command();
        let relay = command.find_subcommand("relay").unwrap();
        let silent = ["help", "version", "drain"];
        for argument in relay.get_arguments().filter(|argument| !silent.contains(&argument.get_id().as_str())) {
            let variable = argument.get_env().and_then(|name| name.to_str()).unwrap_or_default();
            assert!(variable.starts_with("OUTBOX__"), "{} has no variable", argument.get_id());
        }
    }

    #[test]
    fn a_misplaced_url_is_refused_without_its_password() {
        let arguments = ["outbox", "relay", "postgres://app:hush@db/x"].map(Into::into);
        let Err(rejected) = parse(arguments) else { panic!("it was accepted") };
        assert!(rejected.is_error && !rejected.text.contains("hush"), "{}", rejected.text);
    }
}
