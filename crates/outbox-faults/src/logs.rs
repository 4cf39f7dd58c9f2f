use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use xtask::folders;

/// A folder for the logs of this run's processes.
pub(crate) fn create() -> Result<PathBuf> {
    let folder = folders::target().join("faults").join(std::process::id().to_string());
    fs::create_dir_all(&folder).with_context(|| format!("{}: cannot be created", folder.display()))?;
    Ok(folder)
}

/// Removes it, when nobody needs it to find out more.
pub(crate) fn remove(folder: &Path) -> Result<()> {
    fs::remove_dir_all(folder).context("the logs of the run")
}
