//! MariaDB as a program of this machine, MySQL in a container: TLS on, durable as it is by default, little memory.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context, Result};
use rustix::process::Signal;

use super::{
    account::{Account, is_root},
    addresses::host_and_port,
    control::{Control, server_life},
    install::MariaDb,
    native::{Launch, NativeServer, Ready},
    port,
    tls::Certificates,
};
use crate::run;

const INSTALL_LIMIT: Duration = Duration::from_secs(120);

/// A MariaDB or MySQL server.
#[derive(Debug)]
pub struct Mysql {
    url: String,
    ca_path: PathBuf,
    pub(super) control: Control,
}

impl Mysql {
    pub(super) fn new(url: String, ca_path: PathBuf, control: Control) -> Self {
        Self { url, ca_path, control }
    }

    /// URL of a superuser, without a database and without TLS.
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

server_life!(Mysql, "MariaDB");

/// Creates a data folder below `folder` and starts a server on it.
pub(super) fn start_native(
    programs: &MariaDb,
    folder: &Path,
    log: &Path,
    certificates: &Certificates,
) -> Result<Mysql> {
    fs::create_dir_all(folder).with_context(|| format!("{}: cannot be created", folder.display()))?;
    let data = folder.join("data");
    let mut install = Command::new(&programs.install_db);
    install
        .args(["--no-defaults", "--auth-root-authentication-method=normal", "--skip-test-db"])
        .arg(option("datadir", &data))
        .args(own_account())
        .current_dir(folder);
    run::quiet(&mut install, INSTALL_LIMIT).context("MariaDB: no data folder")?;

    let port = port::free()?;
    let server = NativeServer::start(Launch {
        name: "MariaDB",
        program: programs.server.clone(),
        arguments: ["--no-defaults".to_owned()].into_iter().chain(settings(port, &data, certificates)).collect(),
        environment: Vec::new(),
        account: Account::Own,
        folder: folder.to_owned(),
        log: log.to_owned(),
        stop: Signal::TERM,
        crash: Signal::KILL,
        ready: Ready::Log("ready for connections"),
    })?;
    Ok(Mysql::new(format!("mysql://root@127.0.0.1:{port}"), certificates.ca.clone(), Control::Native(Box::new(server))))
}

fn settings(port: u16, data: &Path, certificates: &Certificates) -> Vec<String> {
    let mut settings = vec![
        option("datadir", data),
        "--bind-address=127.0.0.1".to_owned(),
        format!("--port={port}"),
        // Relative to the data folder: a path below a deep clone would be too long for a socket.
        "--socket=mariadb.sock".to_owned(),
        "--pid-file=mariadb.pid".to_owned(),
        option("ssl-ca", &certificates.ca),
        option("ssl-cert", &certificates.server),
        option("ssl-key", &certificates.key),
        "--max-connections=500".to_owned(),
    ];
    settings.extend(own_account());
    settings
}

/// MariaDB runs as root only when told so.
fn own_account() -> Option<String> {
    is_root().then(|| "--user=root".to_owned())
}

fn option(name: &str, path: &Path) -> String {
    format!("--{name}={}", path.display())
}
