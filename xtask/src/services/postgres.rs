//! PostgreSQL as the tests want it: logical WAL, TLS, prepared transactions, `fsync` on.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result};
use rustix::process::Signal;

use super::{
    account::Account,
    addresses::host_and_port,
    control::{Control, server_life},
    native::{Launch, NativeServer, Ready},
    port,
    tls::Certificates,
};
use crate::run;

const INITDB_LIMIT: Duration = Duration::from_secs(120);

/// A PostgreSQL server.
#[derive(Debug)]
pub struct Postgres {
    url: String,
    ca_path: PathBuf,
    pub(super) control: Control,
}

impl Postgres {
    pub(super) fn new(url: String, ca_path: PathBuf, control: Control) -> Self {
        Self { url, ca_path, control }
    }

    /// URL of a superuser, without TLS.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The URL's host and port, without names and passwords.
    pub fn address(&self) -> &str {
        host_and_port(&self.url)
    }

    /// PEM file with the certificate of the authority that signed the server's, which is valid for `localhost`.
    pub fn ca_path(&self) -> &Path {
        &self.ca_path
    }
}

server_life!(Postgres, "PostgreSQL");

/// Creates a data folder and starts a server on it. `folder` exists and may be entered by `account`.
pub(super) fn start_native(
    programs: &Path,
    account: Account,
    folder: &Path,
    log: &Path,
    certificates: &Certificates,
) -> Result<Postgres> {
    for path in [folder, &certificates.server, &certificates.key] {
        account.own(path)?;
    }
    let data = folder.join("data");
    let mut initdb = account.command(&programs.join("initdb"));
    initdb
        .arg("--pgdata")
        .arg(&data)
        .args(["--username=postgres", "--auth=trust", "--encoding=UTF8", "--locale=C"])
        .args(["--no-instructions", "--no-sync"])
        .current_dir(folder);
    run::quiet(&mut initdb, INITDB_LIMIT).context("PostgreSQL: no data folder")?;

    let port = port::free()?;
    let mut arguments = vec!["-D".to_owned(), path_text(&data)?];
    for (name, value) in settings(port, certificates)? {
        arguments.extend(["-c".to_owned(), format!("{name}={value}")]);
    }
    let server = NativeServer::start(Launch {
        name: "PostgreSQL",
        program: programs.join("postgres"),
        arguments,
        environment: Vec::new(),
        account,
        folder: folder.to_owned(),
        log: log.to_owned(),
        stop: Signal::INT,
        // SIGKILL would leave its children behind, which then hold the data folder for a while.
        crash: Signal::QUIT,
        ready: Ready::Command(
            programs.join("pg_isready"),
            ["-q", "-h", "127.0.0.1", "-U", "postgres", "-d", "postgres", "-p"]
                .map(str::to_owned)
                .into_iter()
                .chain([port.to_string()])
                .collect(),
        ),
    })?;
    let url = format!("postgres://postgres@127.0.0.1:{port}/postgres");
    Ok(Postgres::new(url, certificates.ca.clone(), Control::Native(Box::new(server))))
}

fn settings(port: u16, certificates: &Certificates) -> Result<Vec<(&'static str, String)>> {
    Ok(vec![
        ("listen_addresses", "127.0.0.1".to_owned()),
        ("port", port.to_string()),
        ("unix_socket_directories", String::new()),
        ("wal_level", "logical".to_owned()),
        ("max_connections", "200".to_owned()),
        ("max_prepared_transactions", "10".to_owned()),
        ("ssl", "on".to_owned()),
        ("ssl_cert_file", path_text(&certificates.server)?),
        ("ssl_key_file", path_text(&certificates.key)?),
        ("timezone", "UTC".to_owned()),
    ])
}

fn path_text(path: &Path) -> Result<String> {
    path.to_str().map(str::to_owned).with_context(|| format!("{}: not UTF-8", path.display()))
}

/// Creates a folder for the server below `preferred`, or in the temporary folder when the account may not enter it
/// there (a clone below a private home).
pub(super) fn place(preferred: &Path, account: Account) -> Result<PathBuf> {
    fs::create_dir_all(preferred).with_context(|| format!("{}: cannot be created", preferred.display()))?;
    if account.can_enter(preferred) {
        return Ok(preferred.to_owned());
    }
    let folder = tempfile::Builder::new().prefix("outbox-postgres-").tempdir().context("temporary folder")?.keep();
    Ok(folder)
}
