//! A real PostgreSQL and a real Apache Kafka for tests, benchmarks and fault runs.
//!
//! Where they come from, in this order: the environment, `cargo xtask services up`, `docker compose`, programs of the
//! machine (installed when this program is root). Servers that this program starts listen on 127.0.0.1 on ports of
//! their own, and end with it, however it ends.

use std::{
    env, fs,
    path::{Path, PathBuf},
    time::{SystemTime, UNIX_EPOCH},
};

use anyhow::{Context, Result, bail};

use crate::folders;

mod account;
mod compose;
mod control;
mod guard;
mod install;
mod jars;
mod kafka;
mod native;
mod port;
mod postgres;
mod process;
mod state;
mod tls;

pub use kafka::Kafka;
pub use postgres::Postgres;
pub use process::ProcessId;
pub use state::Background;

use account::Account;
use compose::Project;
use control::Control;

/// Superuser URL of PostgreSQL, for tests.
pub const POSTGRES_URL: &str = "OUTBOX_TEST_POSTGRES_URL";
/// Path of the certificate of the authority that signed PostgreSQL's, for tests.
pub const POSTGRES_CA: &str = "OUTBOX_TEST_POSTGRES_CA";
/// Address of the Kafka broker, for tests.
pub const KAFKA: &str = "OUTBOX_TEST_KAFKA";

/// Both servers. Dropping it ends those that it started and removes their data.
#[derive(Debug)]
pub struct Services {
    /// The database.
    pub postgres: Postgres,
    /// The broker.
    pub kafka: Kafka,
    origin: Origin,
    cleanup: Cleanup,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Origin {
    Environment,
    Background,
    Compose,
    Native,
}

/// What is left to remove once the servers have ended: fields are dropped in order, this one last.
#[derive(Debug, Default)]
struct Cleanup {
    project: Option<(String, Project)>,
    folders: Vec<PathBuf>,
}

impl Services {
    /// Uses servers that run, or starts some.
    ///
    /// # Errors
    ///
    /// The environment names only one server; something is missing and cannot be installed; a server does not start.
    pub fn start() -> Result<Self> {
        if let Some(services) = from_environment()? {
            return Ok(services);
        }
        if let Some(background) = Background::find()?.filter(Background::answers) {
            let (postgres, kafka) = background.connect();
            return Ok(Self { postgres, kafka, origin: Origin::Background, cleanup: Cleanup::default() });
        }
        Self::start_own()
    }

    /// Starts servers of this program's own, which it may restart and crash.
    ///
    /// # Errors
    ///
    /// Something is missing and cannot be installed; a server does not start.
    pub fn start_own() -> Result<Self> {
        let run = run_name();
        if compose::available() { in_containers(&run) } else { natively(&run) }
    }

    /// Environment of the tests.
    pub fn environment(&self) -> Vec<(&'static str, String)> {
        environment(self.postgres.url(), self.postgres.ca_path(), self.kafka.bootstrap())
    }

    /// Whether somebody else runs the servers and named them in the environment.
    pub fn come_from_environment(&self) -> bool {
        self.origin == Origin::Environment
    }

    /// Where the servers come from, in words.
    pub fn origin(&self) -> &'static str {
        match self.origin {
            Origin::Environment => "the environment",
            Origin::Background => "cargo xtask services up",
            Origin::Compose => "docker compose",
            Origin::Native => "programs of this machine",
        }
    }

    /// Starts servers that stay after this program, until [`Background::stop`].
    ///
    /// # Errors
    ///
    /// Such servers run already; as [`Services::start_own`].
    pub fn start_background() -> Result<Background> {
        Background::refuse_second()?;
        let mut services = Self::start_own()?;
        let background = Background {
            postgres_url: services.postgres.url().to_owned(),
            postgres_ca: services.postgres.ca_path().to_owned(),
            kafka: services.kafka.bootstrap().to_owned(),
            postgres_process: services.postgres.pid().map(ProcessId::of),
            kafka_process: services.kafka.pid().map(ProcessId::of),
            compose_project: services.cleanup.project.as_ref().map(|(name, _)| name.clone()),
            folders: services.cleanup.folders.clone(),
        };
        background.save()?;
        services.cleanup.project = None;
        services.cleanup.folders.clear();
        services.postgres.into_control().detach();
        services.kafka.into_control().detach();
        Ok(background)
    }
}

impl Drop for Cleanup {
    fn drop(&mut self) {
        if let Some((_, project)) = &self.project
            && let Err(error) = project.down()
        {
            eprintln!("containers are left behind: {error:#}");
        }
        for folder in &self.folders {
            remove(folder);
        }
    }
}

fn from_environment() -> Result<Option<Services>> {
    let given = |name| env::var(name).ok().filter(|value| !value.is_empty());
    let (url, kafka) = match (given(POSTGRES_URL), given(KAFKA)) {
        (Some(url), Some(kafka)) => (url, kafka),
        (None, None) => return Ok(None),
        _ => bail!("{POSTGRES_URL} and {KAFKA}: set both, or neither to have servers started"),
    };
    let Some(ca) = given(POSTGRES_CA) else {
        bail!("{POSTGRES_CA}: must name the CA certificate of the server in {POSTGRES_URL}");
    };
    Ok(Some(Services {
        postgres: Postgres::new(url, ca.into(), Control::Foreign("the environment")),
        kafka: Kafka::new(kafka, Control::Foreign("the environment")),
        origin: Origin::Environment,
        cleanup: Cleanup::default(),
    }))
}

fn in_containers(run: &str) -> Result<Services> {
    let folder = folders::services().join(run);
    fs::create_dir_all(&folder).context("target/services: cannot be created")?;
    let mut cleanup = Cleanup { project: None, folders: vec![folder.clone()] };
    let certificates = tls::make(&folder)?;
    let name = format!("outbox-{run}");
    let (project, postgres, kafka) = Project::up(&name, &certificates)?;
    cleanup.project = Some((name, project));
    Ok(Services { postgres, kafka, origin: Origin::Compose, cleanup })
}

fn natively(run: &str) -> Result<Services> {
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

    let log = |name: &str| logs.join(format!("{run}-{name}.log"));
    let postgres =
        postgres::start_native(&programs.postgres, account, &postgres_folder, &log("postgres"), &certificates)?;
    let kafka = kafka::start_native(&programs.java, &jars, &folder.join("kafka"), &log("kafka"))?;
    Ok(Services { postgres, kafka, origin: Origin::Native, cleanup })
}

fn environment(postgres_url: &str, postgres_ca: &Path, kafka: &str) -> Vec<(&'static str, String)> {
    vec![
        (POSTGRES_URL, postgres_url.to_owned()),
        (POSTGRES_CA, postgres_ca.display().to_string()),
        (KAFKA, kafka.to_owned()),
    ]
}

fn run_name() -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    format!("{}-{}", now.as_secs(), std::process::id())
}

fn remove(folder: &Path) {
    if let Err(error) = fs::remove_dir_all(folder)
        && error.kind() != std::io::ErrorKind::NotFound
    {
        eprintln!("{}: left behind: {error}", folder.display());
    }
}
