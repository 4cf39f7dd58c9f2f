//! Debian's packages, installed without a question and without the servers that they would start.

use std::{
    fs::{self, OpenOptions},
    io::Write,
    os::unix::fs::OpenOptionsExt,
    path::Path,
    process::{Command, Stdio},
};

use anyhow::{Context, Result};

use crate::run;

/// Keeps PostgreSQL's package from creating and starting a cluster of its own on port 5432.
const NO_CLUSTER: &str = "/etc/postgresql-common/createcluster.d/outbox-tests.conf";
/// Asked by every package before it starts its server; 101 forbids it.
const POLICY: &str = "/usr/sbin/policy-rc.d";
const FORBID_STARTS: &str = "#!/bin/sh\nexit 101\n";

/// Installs packages.
///
/// # Errors
///
/// `apt-get` fails, or a setting for it cannot be written or removed.
pub(crate) fn install(packages: &[&str]) -> Result<()> {
    println!("installing {}", packages.join(" "));
    apt_get(&["update"])?;
    let mut settings = Settings::default();
    if packages.contains(&"postgresql") && !Path::new("/etc/postgresql-common").exists() {
        settings.add(NO_CLUSTER, "create_main_cluster = false\n", 0o644)?;
    }
    // One that is there is the machine's own.
    if !Path::new(POLICY).exists() {
        settings.add(POLICY, FORBID_STARTS, 0o755)?;
    }
    let installed = apt_get(&[&["install", "--yes", "--no-install-recommends"], packages].concat());
    installed.and(settings.remove())
}

/// Files that exist only while packages are installed.
#[derive(Default)]
struct Settings {
    files: Vec<&'static str>,
}

impl Settings {
    fn add(&mut self, path: &'static str, text: &str, mode: u32) -> Result<()> {
        if let Some(folder) = Path::new(path).parent() {
            fs::create_dir_all(folder).with_context(|| format!("{}: cannot be created", folder.display()))?;
        }
        OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(mode)
            .open(path)
            .and_then(|mut file| {
                self.files.push(path);
                file.write_all(text.as_bytes())
            })
            .with_context(|| format!("{path}: cannot be written"))
    }

    fn remove(mut self) -> Result<()> {
        while let Some(path) = self.files.pop() {
            fs::remove_file(path).with_context(|| format!("{path}: cannot be removed"))?;
        }
        Ok(())
    }
}

impl Drop for Settings {
    fn drop(&mut self) {
        for path in &self.files {
            let _ = fs::remove_file(path);
        }
    }
}

fn apt_get(arguments: &[&str]) -> Result<()> {
    let mut command = Command::new("apt-get");
    command
        .arg("-qq")
        .args(["-o", "Dpkg::Use-Pty=0", "-o", "Acquire::Retries=3"])
        .args(arguments)
        .env("DEBIAN_FRONTEND", "noninteractive")
        .stdout(Stdio::null());
    run::succeed(&mut command)
}
