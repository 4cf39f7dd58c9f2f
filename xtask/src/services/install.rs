//! What must be on the machine, and how it gets there when this program runs as root.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context, Result, bail};

use super::{account::is_root, addresses::VARIABLES, apt};
use crate::run;

const PROBE_LIMIT: Duration = Duration::from_secs(20);
/// First Java that Kafka 4 brokers run on.
const JAVA_AT_LEAST: u32 = 17;

/// The programs of the servers.
#[derive(Debug, Clone)]
pub(crate) struct Programs {
    /// Folder of PostgreSQL's.
    pub(crate) postgres: PathBuf,
    pub(crate) java: PathBuf,
    pub(crate) mariadb: MariaDb,
    pub(crate) rabbitmq: RabbitMq,
}

/// MariaDB's programs.
#[derive(Debug, Clone)]
pub(crate) struct MariaDb {
    pub(crate) server: PathBuf,
    pub(crate) install_db: PathBuf,
}

/// RabbitMQ's programs.
#[derive(Debug, Clone)]
pub(crate) struct RabbitMq {
    /// Folder of its scripts.
    pub(crate) folder: PathBuf,
    /// Erlang's `epmd`.
    pub(crate) port_mapper: PathBuf,
}

/// One thing that may be missing.
struct Need {
    what: &'static str,
    debian: &'static [&'static str],
    present: fn() -> bool,
}

const NEEDS: [Need; 8] = [
    Need {
        what: "PostgreSQL 13 or later (server programs)",
        debian: &["postgresql"],
        present: || postgres_programs().is_some(),
    },
    Need { what: "Java 17 or later", debian: &["default-jre-headless"], present: || java().is_some() },
    Need {
        what: "Maven, which fetches Kafka",
        debian: &["maven"],
        present: || super::jars::present() || on_path("mvn").is_some(),
    },
    Need {
        what: "MariaDB 10.6 or later (server programs)",
        debian: &["mariadb-server-core"],
        present: || mariadb_programs().is_some(),
    },
    Need {
        what: "MariaDB's command-line client",
        debian: &["mariadb-client-core"],
        present: || on_path("mariadb").is_some(),
    },
    Need { what: "RabbitMQ 3.10 or later", debian: &["rabbitmq-server"], present: || rabbitmq_programs().is_some() },
    Need {
        what: "OpenSSL headers and pkg-config, for the kafka-ssl feature",
        debian: &["libssl-dev", "pkg-config"],
        present: || run::works(Command::new("pkg-config").args(["--exists", "openssl"]), PROBE_LIMIT),
    },
    Need {
        what: "Python 3 with psycopg, for the test of inserts from another language",
        debian: &["python3-psycopg2"],
        present: || {
            ["python3", "/usr/bin/python3"].iter().any(|python| {
                ["psycopg", "psycopg2"].iter().any(|driver| {
                    run::works(Command::new(python).args(["-c", &format!("import {driver}")]), PROBE_LIMIT)
                })
            })
        },
    },
];

/// Finds the programs, and installs what is missing when that takes no question.
///
/// # Errors
///
/// Something is missing and this program is not root, or the system has no `apt-get`; the message lists it all.
pub(crate) fn programs() -> Result<Programs> {
    let missing: Vec<&Need> = NEEDS.iter().filter(|need| !(need.present)()).collect();
    if !missing.is_empty() {
        let packages: Vec<&str> = missing.iter().flat_map(|need| need.debian).copied().collect();
        if !is_root() || on_path("apt-get").is_none() {
            bail!("{}", advice(&missing, &packages));
        }
        apt::install(&packages)?;
        if let Some(need) = missing.iter().find(|need| !(need.present)()) {
            bail!("{}: still missing after apt-get install {}", need.what, packages.join(" "));
        }
    }
    Ok(Programs {
        postgres: postgres_programs().context("PostgreSQL's server programs are missing")?,
        java: java().context("Java 17 or later is missing")?,
        mariadb: mariadb_programs().context("MariaDB's server programs are missing")?,
        rabbitmq: rabbitmq_programs().context("RabbitMQ's programs are missing")?,
    })
}

fn advice(missing: &[&Need], packages: &[&str]) -> String {
    let list: Vec<String> = missing.iter().map(|need| format!("  - {}", need.what)).collect();
    format!(
        "the tests need PostgreSQL, MariaDB, Apache Kafka and RabbitMQ. No container engine answers and these are missing:\n{}\n\
         Do one of these and run the command again:\n\
         \x20 - on Debian or Ubuntu: sudo apt-get install {}\n\
         \x20 - start Docker with its compose plugin\n\
         \x20 - set these to servers of your own: {}",
        list.join("\n"),
        packages.join(" "),
        VARIABLES.join(", "),
    )
}

/// Newest PostgreSQL of the system, as the folder of `initdb` and `postgres`.
fn postgres_programs() -> Option<PathBuf> {
    let debian = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten().filter_map(|version| {
        let number: u32 = version.file_name().to_str()?.parse().ok()?;
        Some((number, version.path().join("bin")))
    });
    let newest = debian.filter(|(_, folder)| complete(folder)).max().map(|(_, folder)| folder);
    newest.or_else(|| {
        let folder = on_path("initdb")?.parent()?.to_path_buf();
        complete(&folder).then_some(folder)
    })
}

fn complete(folder: &Path) -> bool {
    ["initdb", "postgres", "pg_isready"].iter().all(|program| folder.join(program).is_file())
}

fn mariadb_programs() -> Option<MariaDb> {
    let server = on_path("mariadbd").or_else(|| file("/usr/sbin/mariadbd"))?;
    Some(MariaDb { server, install_db: on_path("mariadb-install-db")? })
}

fn rabbitmq_programs() -> Option<RabbitMq> {
    // What Debian has on the path are wrappers, which run as an account of their own in folders of their own.
    let script = file("/usr/lib/rabbitmq/bin/rabbitmq-server").or_else(|| on_path("rabbitmq-server"))?;
    Some(RabbitMq { folder: script.parent()?.to_path_buf(), port_mapper: on_path("epmd")? })
}

fn file(path: &str) -> Option<PathBuf> {
    Some(PathBuf::from(path)).filter(|path| path.is_file())
}

fn java() -> Option<PathBuf> {
    let home = env::var_os("JAVA_HOME").map(|home| PathBuf::from(home).join("bin/java"));
    let installed =
        fs::read_dir("/usr/lib/jvm").into_iter().flatten().flatten().map(|version| version.path().join("bin/java"));
    home.into_iter()
        .chain(on_path("java"))
        .chain(installed)
        .find(|java| java_version(java).is_some_and(|version| version >= JAVA_AT_LEAST))
}

fn java_version(java: &Path) -> Option<u32> {
    let output = run::captured(Command::new(java).arg("-version"), PROBE_LIMIT).ok()?;
    parse_java_version(&String::from_utf8_lossy(&output.stderr))
}

/// `openjdk version "17.0.15" 2025-04-15` is 17; the 1.8 of old is 1.
fn parse_java_version(text: &str) -> Option<u32> {
    let quoted = text.split('"').nth(1)?;
    quoted.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

pub(crate) fn on_path(program: &str) -> Option<PathBuf> {
    let folders = env::var_os("PATH")?;
    env::split_paths(&folders).map(|folder| folder.join(program)).find(|path| path.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn java_says_its_version_in_quotes() {
        assert_eq!(parse_java_version("openjdk version \"17.0.15\" 2025-04-15\n"), Some(17));
        assert_eq!(parse_java_version("openjdk version \"25\" 2025-09-16\n"), Some(25));
        assert_eq!(parse_java_version("java version \"1.8.0_462\"\n"), Some(1));
        assert_eq!(parse_java_version("no such thing"), None);
    }

    #[test]
    fn the_advice_names_each_package_once() {
        let needs: Vec<&Need> = NEEDS.iter().collect();
        let text = advice(&needs, &["postgresql", "default-jre-headless", "maven"]);
        assert!(text.contains("apt-get install postgresql default-jre-headless maven"));
        assert!(text.contains("OUTBOX_TEST_POSTGRES_CA"));
    }
}
