//! Apache Kafka on one node without topic auto-creation.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context, Result};
use rustix::process::Signal;

use super::{
    account::Account,
    control::{Control, server_life},
    native::{Launch, NativeServer, Ready},
    port,
};
use crate::run;

const FORMAT_LIMIT: Duration = Duration::from_secs(60);
/// Any 16 bytes in URL-safe base64 will do: nothing but one node has this name.
const CLUSTER: &str = "b3V0Ym94LXRlc3RzLTAwMQ";
const HEAP: &str = "-Xmx512m";

/// An Apache Kafka broker.
#[derive(Debug)]
pub struct Kafka {
    bootstrap: String,
    pub(super) control: Control,
}

impl Kafka {
    pub(super) fn new(bootstrap: String, control: Control) -> Self {
        Self { bootstrap, control }
    }

    /// Address of the broker as `host:port`.
    pub fn bootstrap(&self) -> &str {
        &self.bootstrap
    }
}

server_life!(Kafka, "Apache Kafka");

/// Formats a log folder and starts a broker on it.
pub(super) fn start_native(java: &Path, jars: &Path, folder: &Path, log: &Path) -> Result<Kafka> {
    fs::create_dir_all(folder).with_context(|| format!("{}: cannot be created", folder.display()))?;
    let (broker, controller) = (port::free()?, port::free()?);
    let properties = folder.join("server.properties");
    fs::write(&properties, settings(broker, controller, folder)).context("server.properties: cannot be written")?;

    let classes = format!("{}/*", jars.display());
    let mut format = Command::new(java);
    format.args(["-cp", &classes, "kafka.tools.StorageTool", "format", "-t", CLUSTER, "-c"]).arg(&properties);
    run::quiet(&mut format, FORMAT_LIMIT).context("Apache Kafka: no log folder")?;

    let server = NativeServer::start(Launch {
        name: "Apache Kafka",
        program: PathBuf::from(java),
        arguments: vec![
            HEAP.to_owned(),
            "-cp".to_owned(),
            classes,
            "kafka.Kafka".to_owned(),
            properties.display().to_string(),
        ],
        environment: Vec::new(),
        account: Account::Own,
        folder: folder.to_owned(),
        log: log.to_owned(),
        stop: Signal::TERM,
        crash: Signal::KILL,
        ready: Ready::Log("Kafka Server started"),
    })?;
    Ok(Kafka::new(format!("127.0.0.1:{broker}"), Control::Native(Box::new(server))))
}

fn settings(broker: u16, controller: u16, folder: &Path) -> String {
    format!(
        "process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller}
listeners=PLAINTEXT://127.0.0.1:{broker},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=PLAINTEXT://127.0.0.1:{broker}
controller.listener.names=CONTROLLER
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT
log.dirs={}
auto.create.topics.enable=false
log.retention.hours=-1
offsets.topic.num.partitions=4
offsets.topic.replication.factor=1
transaction.state.log.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
group.initial.rebalance.delay.ms=0
",
        folder.join("logs").display()
    )
}
