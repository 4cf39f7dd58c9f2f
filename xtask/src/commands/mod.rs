//! The commands of `cargo xtask`.

pub mod services;
