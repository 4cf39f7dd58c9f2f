//! What the readers of databases with many shards have in common: how much to ask for, what of it to take, and when rows that wait
//! are due.

mod appetite;
mod due;
mod found;
#[cfg(feature = "postgres")]
mod sweep;
mod take;

pub(crate) use appetite::Appetite;
pub(crate) use due::{DueFrom, DueTimes};
pub(crate) use found::{Found, Undecodable};
#[cfg(feature = "postgres")]
pub(crate) use sweep::SweepCursors;
pub(crate) use take::{Take, Taken};
