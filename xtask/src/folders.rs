//! Where the workspace and its build output are.

use std::{
    env,
    path::{Path, PathBuf},
};

/// Root folder of the workspace.
pub fn workspace() -> PathBuf {
    // Cargo names the folder of the package that it runs, which may be another one that uses this library.
    let package = env::var_os("CARGO_MANIFEST_DIR")
        .map(PathBuf::from)
        .filter(|package| package.ends_with("xtask"))
        .unwrap_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")));
    package.parent().map_or(package.clone(), Path::to_path_buf)
}

/// Folder that cargo builds into.
pub fn target() -> PathBuf {
    match env::var_os("CARGO_TARGET_DIR") {
        Some(folder) => env::current_dir().unwrap_or_default().join(folder),
        None => workspace().join("target"),
    }
}

/// Folder that holds everything about services: Kafka's jars, running instances and their logs.
pub fn services() -> PathBuf {
    target().join("services")
}
