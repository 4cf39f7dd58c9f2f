//! Watches the statements of a connection through Diesel's instrumentation.

use std::sync::{Arc, Mutex};

use diesel::connection::{Instrumentation, InstrumentationEvent};

/// The texts of statements, with their binds as Diesel prints them, and the number that were prepared.
#[derive(Clone, Default)]
pub struct Statements(Arc<Mutex<(Vec<String>, usize)>>);

impl Statements {
    /// The statements that write to an outbox.
    pub fn inserts(&self) -> Vec<String> {
        self.0.lock().unwrap().0.iter().filter(|text| text.contains("INSERT INTO")).cloned().collect()
    }

    pub fn prepared(&self) -> usize {
        self.0.lock().unwrap().1
    }

    pub fn watch(&self) -> impl Instrumentation {
        let seen = self.clone();
        move |event: InstrumentationEvent<'_>| {
            let mut seen = seen.0.lock().unwrap();
            match event {
                InstrumentationEvent::StartQuery { query, .. } => seen.0.push(query.to_string()),
                InstrumentationEvent::CacheQuery { sql, .. } if sql.contains("INSERT INTO") => seen.1 += 1,
                _ => {}
            }
        }
    }
}
