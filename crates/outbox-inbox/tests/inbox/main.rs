//! How the inbox behaves between the in-memory storage and source, on paused time.

mod dead_letters;
mod durable;
mod failing;
mod hostile;
mod losing;
mod partitions;
mod retention;
mod sequences;
mod shop;
mod transactional;
