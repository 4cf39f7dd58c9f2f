//! Packages of the workspace, as `cargo metadata` tells them.

use std::{collections::BTreeMap, time::Duration};

use anyhow::{Context, Result};
use serde::Deserialize;

use crate::run;

const LIMIT: Duration = Duration::from_secs(120);

/// One package of the workspace.
#[derive(Debug, Deserialize)]
pub struct Package {
    /// Name in its manifest.
    pub name: String,
    /// Features and what each turns on.
    pub features: BTreeMap<String, Vec<String>>,
    /// Everything its manifest asks for, packages of the workspace and others.
    pub dependencies: Vec<Dependency>,
}

/// One entry of a package's dependency tables.
#[derive(Debug, Deserialize)]
pub struct Dependency {
    /// Name of the package.
    pub name: String,
    /// Which table it stands in.
    #[serde(deserialize_with = "kind")]
    pub kind: Kind,
}

/// A manifest's dependency tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `[dependencies]`
    Normal,
    /// `[dev-dependencies]`
    Dev,
    /// `[build-dependencies]`
    Build,
}

/// All packages of the workspace.
///
/// # Errors
///
/// Cargo cannot be asked, or answers something unknown.
pub fn packages() -> Result<Vec<Package>> {
    #[derive(Deserialize)]
    struct Workspace {
        packages: Vec<Package>,
    }
    let mut command = run::cargo();
    command.args(["metadata", "--format-version", "1", "--no-deps", "--locked"]);
    let text = run::quiet(&mut command, LIMIT)?;
    let workspace: Workspace = serde_json::from_str(&text).context("cargo metadata")?;
    Ok(workspace.packages)
}

fn kind<'de, D: serde::Deserializer<'de>>(value: D) -> Result<Kind, D::Error> {
    match Option::<String>::deserialize(value)?.as_deref() {
        None => Ok(Kind::Normal),
        Some("dev") => Ok(Kind::Dev),
        Some("build") => Ok(Kind::Build),
        Some(other) => Err(serde::de::Error::unknown_variant(other, &["dev", "build"])),
    }
}
