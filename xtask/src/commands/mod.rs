//! The commands of `cargo xtask`.

pub mod bench;
pub mod faults;
pub mod lint;
pub mod services;
pub mod test;

use anyhow::{Result, bail};

use crate::{services::Services, stages::Stages};

fn start_services(stages: &mut Stages) -> Result<Services> {
    let services = stages.run("services", Services::start)?;
    println!(
        "PostgreSQL, MariaDB, Apache Kafka and RabbitMQ ({}) answer at {}, {}, {} and {}",
        services.origin(),
        services.postgres.address(),
        services.mysql.address(),
        services.kafka.bootstrap(),
        services.rabbitmq.address(),
    );
    Ok(services)
}

/// Ends a task: prints the times, and fails when a stage failed.
fn finish(stages: &Stages, task: &str) -> Result<()> {
    stages.print();
    crate::interrupt::check()?;
    if stages.failed() {
        bail!("{task} failed");
    }
    Ok(())
}
