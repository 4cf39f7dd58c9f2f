//! The servers as programs of this machine, started side by side.

use std::{
    fs,
    path::{Path, PathBuf},
    thread::{self, ScopedJoinHandle},
};

use anyhow::{Context, Result};

use super::{
    Cleanup, Origin, Servers, Services, account::Account, install, jars, kafka, mysql, postgres, rabbitmq, tls,
};
use crate::folders;

/// Starts programs of this machine, which are installed first when this program is root. `run` is unique.
///
/// # Errors
///
/// Something is missing and cannot be installed; a server does not start. Those that did are ended.
pub(super) fn start(run: &str) -> Result<Services> {
    let programs = install::programs()?;
    let jars = jars::fetch()?;
    let folder = folders::services().join(run);
    let logs = folders::services().join("logs");
    fs::create_dir_all(&logs).context("target/services: cannot be created")?;
    let account = Account::for_postgres()?;
    let mut cleanup = Cleanup { project: None, folders: vec![folder.clone()] };
    let postgres_folder = postgres::place(&folder.join("postgres"), account)?;
    cleanup.folders.push(postgres_folder.clone());
    let certificates = tls::make(&postgres_folder)?;

    let rabbitmq_folder = without_blanks(&folder.join("rabbitmq"), &mut cleanup)?;

    let log = |name: &str| logs.join(format!("{run}-{name}.log"));
    // Side by side: what takes long is the first start of each.
    let servers = thread::scope(|scope| {
        let postgres = scope.spawn(|| {
            let log = log("postgres");
            postgres::start_native(&programs.postgres, account, &postgres_folder, &log, &certificates)
        });
        let kafka = scope.spawn(|| kafka::start_native(&programs.java, &jars, &folder.join("kafka"), &log("kafka")));
        let mysql = scope
            .spawn(|| mysql::start_native(&programs.mariadb, &folder.join("mariadb"), &log("mariadb"), &certificates));
        let rabbitmq = scope.spawn(|| {
            let logs = (&*log("rabbitmq"), &*log("epmd"));
            rabbitmq::start_native(&programs.rabbitmq, &rabbitmq_folder, logs, &certificates)
        });
        // All are joined before the first error is looked at, so that none is still starting when the others end.
        let (postgres, kafka, mysql, rabbitmq) = (joined(postgres), joined(kafka), joined(mysql), joined(rabbitmq));
        anyhow::Ok(Servers { postgres: postgres?, kafka: kafka?, mysql: mysql?, rabbitmq: rabbitmq? })
    })?;
    Ok(Services::new(servers, Origin::Native, cleanup))
}

fn joined<T>(start: ScopedJoinHandle<'_, Result<T>>) -> Result<T> {
    start.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// The folder, or one in the temporary folder when its path has a blank: RabbitMQ's scripts split there.
fn without_blanks(preferred: &Path, cleanup: &mut Cleanup) -> Result<PathBuf> {
    if !preferred.to_string_lossy().contains(char::is_whitespace) {
        return Ok(preferred.to_owned());
    }
    let folder = tempfile::Builder::new().prefix("outbox-rabbitmq-").tempdir().context("temporary folder")?.keep();
    cleanup.folders.push(folder.clone());
    Ok(folder)
}
