//! The engine reads like the way of a message: receive (`receiving`, `partitions`) → read its envelope (`work`) → queue by key (`lanes`) →
//! one transaction a batch (`applying`, `batches`) → acknowledge; what is put aside comes back by `held` (`retrying`). `positions` and
//! `retention` are rooms of their own. One future owns all state (`run`) and polls what the rooms do; nothing is spawned. Dropping that
//! future is a crash, not polling it is a pause, and both are safe.

mod applying;
mod batches;
mod context;
mod held;
mod lanes;
mod losses;
mod partitions;
mod positions;
mod receiving;
mod retention;
mod retrying;
mod run;
mod sequences;
mod work;

pub(crate) use context::Context;
pub(crate) use losses::Losses;
pub(crate) use run::Engine;
