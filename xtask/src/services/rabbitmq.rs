//! RabbitMQ on one node: TLS beside plain connections, no plugins, an Erlang port mapper of its own.

use std::{
    fs::{self, OpenOptions},
    io::Write,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use rustix::process::Signal;

use super::{
    account::Account,
    addresses::host_and_port,
    control::{Control, server_life},
    install,
    native::{Launch, NativeServer, Ready},
    port,
    tls::Certificates,
};

/// A RabbitMQ node.
#[derive(Debug)]
pub struct RabbitMq {
    url: String,
    tls_url: String,
    ca_path: PathBuf,
    rabbitmqctl: String,
    pub(super) control: Control,
    /// Tells `rabbitmqctl` where the node listens. RabbitMQ would start one that outlives everything.
    pub(super) port_mapper: Option<NativeServer>,
}

impl RabbitMq {
    pub(super) fn new(url: String, tls_url: String, ca_path: PathBuf, rabbitmqctl: String, control: Control) -> Self {
        Self { url, tls_url, ca_path, rabbitmqctl, control, port_mapper: None }
    }

    /// URL of an administrator on the virtual host `/`, without TLS.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The same with TLS, by the name in the server's certificate.
    pub fn tls_url(&self) -> &str {
        &self.tls_url
    }

    /// The URL's host and port, without names and passwords.
    pub fn address(&self) -> &str {
        host_and_port(&self.url)
    }

    /// PEM file with the certificate of the authority that signed the server's, which is valid for `localhost`.
    pub fn ca_path(&self) -> &Path {
        &self.ca_path
    }

    /// Words that begin a command line of `rabbitmqctl` on this node, separated by blanks.
    pub fn rabbitmqctl(&self) -> &str {
        &self.rabbitmqctl
    }
}

server_life!(RabbitMq, "RabbitMQ");

/// Starts a node whose data is in `folder`, which has no blank in its path.
pub(super) fn start_native(
    programs: &install::RabbitMq,
    folder: &Path,
    logs: (&Path, &Path),
    certificates: &Certificates,
) -> Result<RabbitMq> {
    let (node_log, mapper_log) = logs;
    let mapper_folder = folder.join("epmd");
    fs::create_dir_all(&mapper_folder).with_context(|| format!("{}: cannot be created", folder.display()))?;
    let ports = Ports { plain: port::free()?, tls: port::free()?, node: port::free()?, mapper: port::free()? };
    let environment = environment(&ports, folder);
    write(&folder.join("plugins"), "[].\n", 0o644)?;
    write(&folder.join("rabbitmq.conf"), &settings(&ports, certificates), 0o644)?;
    let control_script = folder.join("rabbitmqctl");
    write(&control_script, &script(&environment, &programs.folder.join("rabbitmqctl")), 0o755)?;

    let port_mapper = NativeServer::start(Launch {
        name: "Erlang's port mapper",
        program: programs.port_mapper.clone(),
        // Without `-daemon` it stays this program's child. The debug output is how it says that it listens.
        arguments: ["-d", "-address", "127.0.0.1", "-port", &ports.mapper.to_string()].map(str::to_owned).to_vec(),
        environment: Vec::new(),
        account: Account::Own,
        folder: mapper_folder,
        log: mapper_log.to_owned(),
        stop: Signal::TERM,
        crash: Signal::KILL,
        ready: Ready::Log("epmd running"),
    })?;
    let node = NativeServer::start(Launch {
        name: "RabbitMQ",
        program: programs.folder.join("rabbitmq-server"),
        arguments: Vec::new(),
        environment,
        account: Account::Own,
        folder: folder.to_owned(),
        log: node_log.to_owned(),
        stop: Signal::TERM,
        crash: Signal::KILL,
        ready: Ready::Log("Server startup complete"),
    })?;
    let mut rabbitmq = RabbitMq::new(
        format!("amqp://guest:guest@127.0.0.1:{}/%2f", ports.plain),
        format!("amqps://guest:guest@localhost:{}/%2f", ports.tls),
        certificates.ca.clone(),
        control_script.display().to_string(),
        Control::Native(Box::new(node)),
    );
    rabbitmq.port_mapper = Some(port_mapper);
    Ok(rabbitmq)
}

struct Ports {
    plain: u16,
    tls: u16,
    /// Between Erlang nodes: `rabbitmqctl` is one.
    node: u16,
    mapper: u16,
}

fn environment(ports: &Ports, folder: &Path) -> Vec<(&'static str, String)> {
    let below = |name: &str| folder.join(name).display().to_string();
    vec![
        // The cookie that lets `rabbitmqctl` in is kept here.
        ("HOME", folder.display().to_string()),
        ("ERL_EPMD_ADDRESS", "127.0.0.1".to_owned()),
        ("ERL_EPMD_PORT", ports.mapper.to_string()),
        ("RABBITMQ_NODENAME", format!("outbox{}@localhost", ports.plain)),
        ("RABBITMQ_NODE_IP_ADDRESS", "127.0.0.1".to_owned()),
        ("RABBITMQ_NODE_PORT", ports.plain.to_string()),
        ("RABBITMQ_DIST_PORT", ports.node.to_string()),
        ("RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS", "-kernel inet_dist_use_interface {127,0,0,1}".to_owned()),
        ("RABBITMQ_BASE", folder.display().to_string()),
        ("RABBITMQ_MNESIA_BASE", below("mnesia")),
        ("RABBITMQ_LOG_BASE", below("log")),
        ("RABBITMQ_ENABLED_PLUGINS_FILE", below("plugins")),
        ("RABBITMQ_CONFIG_FILE", below("rabbitmq.conf")),
        // Files of the machine that must not be read: these do not exist.
        ("RABBITMQ_ADVANCED_CONFIG_FILE", below("advanced.config")),
        ("RABBITMQ_CONF_ENV_FILE", below("rabbitmq-env.conf")),
        // The script replaces itself by the server, whose process id is then known, and leaves signals to it.
        ("RUNNING_UNDER_SYSTEMD", "true".to_owned()),
    ]
}

fn settings(ports: &Ports, certificates: &Certificates) -> String {
    format!(
        "listeners.tcp.1 = 127.0.0.1:{}
listeners.ssl.1 = 127.0.0.1:{}
ssl_options.cacertfile = {}
ssl_options.certfile = {}
ssl_options.keyfile = {}
ssl_options.verify = verify_none
log.console = true
log.console.level = info
log.file = false
",
        ports.plain,
        ports.tls,
        certificates.ca.display(),
        certificates.server.display(),
        certificates.key.display(),
    )
}

/// A program that runs `rabbitmqctl` on the node.
fn script(environment: &[(&'static str, String)], rabbitmqctl: &Path) -> String {
    let quoted = |text: &str| format!("'{}'", text.replace('\'', r"'\''"));
    let exports: String =
        environment.iter().map(|(name, value)| format!("export {name}={}\n", quoted(value))).collect();
    format!("#!/bin/sh\n{exports}exec {} \"$@\"\n", quoted(&rabbitmqctl.display().to_string()))
}

fn write(path: &Path, text: &str, mode: u32) -> Result<()> {
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(path)
        .and_then(|mut file| file.write_all(text.as_bytes()))
        .with_context(|| format!("{}: cannot be written", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_script_keeps_blanks_and_quotes_in_the_environment() {
        let text = script(&[("HOME", "/it's a home".to_owned())], Path::new("/usr/lib/rabbitmq/bin/rabbitmqctl"));
        assert_eq!(
            text,
            "#!/bin/sh\nexport HOME='/it'\\''s a home'\nexec '/usr/lib/rabbitmq/bin/rabbitmqctl' \"$@\"\n"
        );
    }
}
