use std::{process::Command, time::Duration};

use anyhow::{Context, Result};
use tokio::runtime::Runtime;
use xtask::{run, services::Services};

use crate::{
    broker::Broker,
    database,
    options::{BrokerKind, DatabaseKind, RunOptions},
};

const CONTROL_LIMIT: Duration = Duration::from_secs(30);

/// The servers of a run, which it may restart and crash. Dropping it ends them.
pub(crate) struct Servers {
    services: Services,
    database: DatabaseKind,
    broker: BrokerKind,
}

impl Servers {
    pub(crate) fn start(database: DatabaseKind, broker: BrokerKind) -> Result<Self> {
        let mut services = Services::start_own()?;
        // The others would only take memory and time from the run.
        match database {
            DatabaseKind::Postgres => services.mysql.stop()?,
            DatabaseKind::Mysql => services.postgres.stop()?,
        }
        match broker {
            BrokerKind::Kafka => services.rabbitmq.stop()?,
            BrokerKind::Rabbitmq => services.kafka.stop()?,
        }
        Ok(Self { services, database, broker })
    }

    /// URL of the database, which exists when this returns.
    pub(crate) fn database_url(&self, runtime: &Runtime) -> Result<String> {
        match self.database {
            DatabaseKind::Postgres => Ok(self.services.postgres.url().to_owned()),
            DatabaseKind::Mysql => runtime.block_on(database::create_mysql(self.services.mysql.url())),
        }
    }

    /// What the relays are told.
    pub(crate) fn broker_address(&self) -> &str {
        match self.broker {
            BrokerKind::Kafka => self.services.kafka.bootstrap(),
            BrokerKind::Rabbitmq => self.services.rabbitmq.url(),
        }
    }

    /// Makes the topic or queue.
    pub(crate) fn open_broker(&self, runtime: &Runtime, options: &RunOptions) -> Result<Broker> {
        match self.broker {
            BrokerKind::Kafka => Broker::kafka(runtime, self.broker_address()),
            BrokerKind::Rabbitmq => Broker::rabbitmq(runtime, self.broker_address(), options.unroutable),
        }
    }

    pub(crate) fn restart_database(&mut self) -> Result<()> {
        match self.database {
            DatabaseKind::Postgres => self.services.postgres.restart(),
            DatabaseKind::Mysql => self.services.mysql.restart(),
        }
    }

    pub(crate) fn crash_database(&mut self) -> Result<()> {
        match self.database {
            DatabaseKind::Postgres => {
                self.services.postgres.kill()?;
                self.services.postgres.start()
            }
            DatabaseKind::Mysql => {
                self.services.mysql.kill()?;
                self.services.mysql.start()
            }
        }
    }

    pub(crate) fn restart_broker(&mut self) -> Result<()> {
        match self.broker {
            BrokerKind::Kafka => self.services.kafka.restart(),
            BrokerKind::Rabbitmq => self.services.rabbitmq.restart(),
        }
    }

    pub(crate) fn crash_broker(&mut self) -> Result<()> {
        match self.broker {
            BrokerKind::Kafka => {
                self.services.kafka.kill()?;
                self.services.kafka.start()
            }
            BrokerKind::Rabbitmq => {
                self.services.rabbitmq.kill()?;
                self.services.rabbitmq.start()
            }
        }
    }

    /// Runs `rabbitmqctl` on the node; what it printed.
    pub(crate) fn rabbitmqctl(&self, arguments: &[&str]) -> Result<String> {
        let mut words = self.services.rabbitmq.rabbitmqctl().split_whitespace();
        let mut command = Command::new(words.next().context("no rabbitmqctl")?);
        command.args(words).args(arguments);
        run::quiet(&mut command, CONTROL_LIMIT).context("rabbitmqctl")
    }
}
