//! The services of `compose.yaml` through `docker compose`, when an engine answers.

use std::{path::Path, process::Command, time::Duration};

use anyhow::{Context, Result};

use super::{Kafka, Mysql, Postgres, RabbitMq, Servers, control::Control, port, tls::Certificates};
use crate::{folders, run};

const PROBE_LIMIT: Duration = Duration::from_secs(10);
/// Long enough to pull all images.
const UP_LIMIT: Duration = Duration::from_secs(600);
const COMMAND_LIMIT: Duration = Duration::from_secs(120);

/// Containers of one run.
#[derive(Debug, Clone)]
pub(crate) struct Project {
    name: String,
    environment: Vec<(&'static str, String)>,
}

/// One container of a project.
#[derive(Debug)]
pub(crate) struct Container {
    project: Project,
    service: &'static str,
}

/// Whether a container engine and its compose plugin answer.
pub(crate) fn available() -> bool {
    run::works(Command::new("docker").arg("info"), PROBE_LIMIT)
        && run::works(Command::new("docker").args(["compose", "version"]), PROBE_LIMIT)
}

impl Project {
    /// Starts the containers and waits until all are healthy.
    pub(crate) fn up(name: &str, certificates: &Certificates) -> Result<(Self, Servers)> {
        let (postgres_port, kafka_port) = (port::free()?, port::free()?);
        let (mysql_port, amqp_port, amqps_port) = (port::free()?, port::free()?, port::free()?);
        let tls = certificates.ca.parent().unwrap_or(Path::new("."));
        let project = Self {
            name: name.to_owned(),
            environment: vec![
                ("OUTBOX_POSTGRES_PORT", postgres_port.to_string()),
                ("OUTBOX_KAFKA_PORT", kafka_port.to_string()),
                ("OUTBOX_MYSQL_PORT", mysql_port.to_string()),
                ("OUTBOX_AMQP_PORT", amqp_port.to_string()),
                ("OUTBOX_AMQPS_PORT", amqps_port.to_string()),
                ("OUTBOX_TLS_DIR", tls.display().to_string()),
            ],
        };
        if let Err(error) = project.run(&["up", "--detach", "--wait"], UP_LIMIT) {
            // The first error says more than one of the clean-up.
            let _ = project.down();
            return Err(error);
        }
        let container = |service| Control::Container(Container { project: project.clone(), service });
        let ca = || certificates.ca.clone();
        let servers = Servers {
            postgres: Postgres::new(
                format!("postgres://postgres@127.0.0.1:{postgres_port}/postgres"),
                ca(),
                container("postgres"),
            ),
            kafka: Kafka::new(format!("127.0.0.1:{kafka_port}"), container("kafka")),
            mysql: Mysql::new(format!("mysql://root@127.0.0.1:{mysql_port}"), ca(), container("mysql")),
            rabbitmq: RabbitMq::new(
                format!("amqp://guest:guest@127.0.0.1:{amqp_port}/%2f"),
                format!("amqps://guest:guest@localhost:{amqps_port}/%2f"),
                ca(),
                // Compose finds its file in a folder above the tests'.
                format!("docker compose --project-name {name} exec -T rabbitmq rabbitmqctl"),
                container("rabbitmq"),
            ),
        };
        Ok((project, servers))
    }

    /// Removes the containers and their data.
    pub(crate) fn down(&self) -> Result<()> {
        self.run(&["down", "--volumes", "--timeout", "10"], COMMAND_LIMIT)
    }

    /// The project that an earlier program started under this name.
    pub(crate) fn named(name: &str) -> Self {
        Self { name: name.to_owned(), environment: Vec::new() }
    }

    fn run(&self, arguments: &[&str], limit: Duration) -> Result<()> {
        let mut command = Command::new("docker");
        command
            .args(["compose", "--project-name", &self.name, "--file"])
            .arg(folders::workspace().join("compose.yaml"))
            .args(arguments)
            .envs(self.environment.iter().map(|(name, value)| (*name, value)));
        run::quiet(&mut command, limit).context("docker compose")?;
        Ok(())
    }
}

impl Container {
    pub(crate) fn stop(&self) -> Result<()> {
        self.project.run(&["stop", self.service], COMMAND_LIMIT)
    }

    pub(crate) fn kill(&self) -> Result<()> {
        self.project.run(&["kill", self.service], COMMAND_LIMIT)
    }

    pub(crate) fn start(&self) -> Result<()> {
        self.project.run(&["up", "--detach", "--wait", self.service], COMMAND_LIMIT)
    }
}
