//! Real databases and brokers for tests, benchmarks and fault runs: PostgreSQL, MariaDB, Apache Kafka and RabbitMQ.
//!
//! Where they come from, in this order: the environment, `cargo xtask services up`, `docker compose`, programs of the
//! machine (installed when this program is root). Servers that this program starts listen on 127.0.0.1 on ports of
//! their own, and end with it, however it ends.

use std::{
    env, fs,
    path::{Path, PathBuf},
    thread,
    time::{SystemTime, UNIX_EPOCH},
};

use anyhow::{Context, Result};

use crate::folders;

mod account;
mod addresses;
mod apt;
mod compose;
mod control;
mod guard;
mod install;
mod jars;
mod kafka;
mod mysql;
mod native;
mod port;
mod postgres;
mod process;
mod programs;
mod rabbitmq;
mod state;
mod tls;

pub use addresses::{AMQP, AMQP_CA, AMQPS, KAFKA, MYSQL_CA, MYSQL_URL, POSTGRES_CA, POSTGRES_URL, RABBITMQCTL};
pub use kafka::Kafka;
pub use mysql::Mysql;
pub use postgres::Postgres;
pub use process::ProcessId;
pub use rabbitmq::RabbitMq;
pub use state::Background;

use addresses::Addresses;
use compose::Project;
use control::Control;
use native::NativeServer;
use process::Recorded;

/// All servers. Dropping it ends those that it started and removes their data.
#[derive(Debug)]
pub struct Services {
    /// PostgreSQL.
    pub postgres: Postgres,
    /// Apache Kafka.
    pub kafka: Kafka,
    /// MariaDB, or MySQL in a container.
    pub mysql: Mysql,
    /// RabbitMQ.
    pub rabbitmq: RabbitMq,
    origin: Origin,
    cleanup: Cleanup,
}

/// The servers without what they leave behind.
struct Servers {
    postgres: Postgres,
    kafka: Kafka,
    mysql: Mysql,
    rabbitmq: RabbitMq,
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
    /// The environment names some servers and not the others; something is missing and cannot be installed; a server does not start.
    pub fn start() -> Result<Self> {
        if let Some(addresses) = Addresses::given(|name| env::var(name).ok())? {
            return Ok(Self::foreign(addresses, Origin::Environment));
        }
        if let Some(background) = Background::find()?.filter(Background::answers) {
            return Ok(Self::foreign(background.addresses, Origin::Background));
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
        if compose::available() { in_containers(&run) } else { programs::start(&run) }
    }

    /// Environment of the tests.
    pub fn environment(&self) -> Vec<(&'static str, String)> {
        self.addresses().environment()
    }

    /// Whether somebody else runs the servers and named them in the environment.
    pub fn come_from_environment(&self) -> bool {
        self.origin == Origin::Environment
    }

    /// Where the servers come from, in words.
    pub fn origin(&self) -> &'static str {
        self.origin.name()
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
            addresses: services.addresses(),
            servers: services.recorded(),
            compose_project: services.cleanup.project.as_ref().map(|(name, _)| name.clone()),
            folders: services.cleanup.folders.clone(),
        };
        background.save()?;
        services.cleanup.project = None;
        services.cleanup.folders.clear();
        services.controls().into_iter().for_each(Control::detach);
        services.rabbitmq.port_mapper.iter_mut().for_each(NativeServer::detach);
        Ok(background)
    }

    fn new(servers: Servers, origin: Origin, cleanup: Cleanup) -> Self {
        let Servers { postgres, kafka, mysql, rabbitmq } = servers;
        Self { postgres, kafka, mysql, rabbitmq, origin, cleanup }
    }

    /// Servers that are not this program's to end.
    fn foreign(addresses: Addresses, origin: Origin) -> Self {
        let control = || Control::Foreign(origin.name());
        let Addresses { postgres_url, postgres_ca, kafka, mysql_url, mysql_ca, amqp, amqps, amqp_ca, rabbitmqctl } =
            addresses;
        let servers = Servers {
            postgres: Postgres::new(postgres_url, postgres_ca, control()),
            kafka: Kafka::new(kafka, control()),
            mysql: Mysql::new(mysql_url, mysql_ca, control()),
            rabbitmq: RabbitMq::new(amqp, amqps, amqp_ca, rabbitmqctl, control()),
        };
        Self::new(servers, origin, Cleanup::default())
    }

    fn addresses(&self) -> Addresses {
        Addresses {
            postgres_url: self.postgres.url().to_owned(),
            postgres_ca: self.postgres.ca_path().to_owned(),
            kafka: self.kafka.bootstrap().to_owned(),
            mysql_url: self.mysql.url().to_owned(),
            mysql_ca: self.mysql.ca_path().to_owned(),
            amqp: self.rabbitmq.url().to_owned(),
            amqps: self.rabbitmq.tls_url().to_owned(),
            amqp_ca: self.rabbitmq.ca_path().to_owned(),
            rabbitmqctl: self.rabbitmq.rabbitmqctl().to_owned(),
        }
    }

    /// Processes of this program; the port mapper last, since RabbitMQ needs it to its end.
    fn recorded(&self) -> Vec<Recorded> {
        [&self.kafka.control, &self.postgres.control, &self.mysql.control, &self.rabbitmq.control]
            .into_iter()
            .filter_map(Control::recorded)
            .chain(self.rabbitmq.port_mapper.as_ref().and_then(NativeServer::recorded))
            .collect()
    }

    fn controls(&mut self) -> [&mut Control; 4] {
        [&mut self.kafka.control, &mut self.postgres.control, &mut self.mysql.control, &mut self.rabbitmq.control]
    }
}

impl Drop for Services {
    fn drop(&mut self) {
        // Side by side: each takes a second or more. The port mapper, a field, ends after its node.
        thread::scope(|scope| {
            for control in self.controls() {
                scope.spawn(|| control.end());
            }
        });
    }
}

impl Origin {
    fn name(self) -> &'static str {
        match self {
            Self::Environment => "the environment",
            Self::Background => "cargo xtask services up",
            Self::Compose => "docker compose",
            Self::Native => "programs of this machine",
        }
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

fn in_containers(run: &str) -> Result<Services> {
    let folder = folders::services().join(run);
    fs::create_dir_all(&folder).context("target/services: cannot be created")?;
    let mut cleanup = Cleanup { project: None, folders: vec![folder.clone()] };
    let certificates = tls::make(&folder)?;
    let name = format!("outbox-{run}");
    let (project, servers) = Project::up(&name, &certificates)?;
    cleanup.project = Some((name, project));
    Ok(Services::new(servers, Origin::Compose, cleanup))
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
