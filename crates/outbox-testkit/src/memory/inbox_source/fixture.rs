use std::sync::Arc;

use async_trait::async_trait;
use outbox_core::inbox::{Acknowledging, Consumer, IncomingHeaders, Source};

use super::MemorySource;
use crate::BoxError;
use crate::source_suite::{Published, SourceFixture, TestStream};

const STREAM: &str = "order";

impl MemorySource {
    /// A fixture of the conformance suite.
    pub fn fixture(acknowledging: Acknowledging) -> impl SourceFixture {
        Fixture { acknowledging }
    }
}

struct Fixture {
    acknowledging: Acknowledging,
}

struct Stream(MemorySource);

#[async_trait]
impl SourceFixture for Fixture {
    async fn fresh(&self) -> Result<Box<dyn TestStream>, BoxError> {
        let partitions = if self.acknowledging == Acknowledging::Cumulative { 3 } else { 1 };
        Ok(Box::new(Stream(MemorySource::new(self.acknowledging, partitions, &[STREAM]))))
    }

    async fn unreachable(&self) -> Result<Arc<dyn Source>, BoxError> {
        let source = MemorySource::new(self.acknowledging, 1, &[STREAM]);
        source.set_unavailable(true);
        Ok(Arc::new(source))
    }
}

#[async_trait]
impl TestStream for Stream {
    fn source(&self) -> Arc<dyn Source> {
        Arc::new(self.0.clone())
    }

    fn consumer(&self) -> Consumer {
        Consumer::new("billing").unwrap_or_else(|invalid| panic!("{invalid}"))
    }

    fn name(&self) -> String {
        STREAM.to_owned()
    }

    fn prefetch(&self) -> usize {
        0
    }

    async fn publish(&self, messages: &[Published]) -> Result<(), BoxError> {
        for Published { key, headers, payload } in messages {
            let headers = headers.iter().map(|(name, value)| (name.clone(), value.clone().into())).collect();
            self.0.publish(STREAM, Some(key), IncomingHeaders::new(headers), payload);
        }
        Ok(())
    }

    async fn remove(self: Box<Self>) -> Result<(), BoxError> {
        Ok(())
    }
}
