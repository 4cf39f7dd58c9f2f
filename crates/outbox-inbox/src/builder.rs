use std::marker::PhantomData;
use std::sync::{Arc, Mutex};

use outbox_core::Event;
use outbox_core::inbox::{Consumer, Identity, InboxStorage, Incoming, Source};
use outbox_core::relay::InvalidConfig;
use rand::SeedableRng as _;
use rand::rngs::StdRng;
use serde::de::DeserializeOwned;

use crate::decoder::{Decoder, Standard};
use crate::engine::{Context, Engine, Losses};
use crate::handle::{InboxHandle, Shared};
use crate::handler::{
    Failure, Handler, HandlerFn, Handlers, Raw, RawHandlerFn, State, StateHandlerFn, Stateless, Typed,
};
use crate::stats::InboxStats;
use crate::{Delivery, InboxConfig, InboxError};

/// Derives the identity of a message that carries none.
pub(crate) type DeriveIdentity = Box<dyn Fn(&Incoming) -> Option<Identity> + Send + Sync>;

/// A deduplicating consumer, ready to run.
pub struct Inbox<S: InboxStorage> {
    context: Arc<Context<S>>,
    source: Arc<dyn Source>,
}

/// Makes an [`Inbox`]; see [`Inbox::builder`].
pub struct InboxBuilder<S: InboxStorage> {
    storage: Arc<S>,
    consumer: String,
    config: InboxConfig,
    handlers: Handlers<S::Connection>,
    decoder: Arc<dyn Decoder>,
    derive: Option<DeriveIdentity>,
}

/// An [`InboxBuilder`] with a source: what can be built.
pub struct InboxBuilderWithSource<S: InboxStorage> {
    builder: InboxBuilder<S>,
    source: Arc<dyn Source>,
}

/// What an inbox did, once it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InboxReport {
    /// The counters at the end.
    pub stats: InboxStats,
    /// Whether everything that was being processed was committed and acknowledged before the inbox ended. `false`: the shutdown's deadline
    /// came first, and those messages are delivered again.
    pub drained: bool,
}

impl<S: InboxStorage> Inbox<S> {
    /// An inbox in a storage, as this consumer: 1 to 255 bytes, unique among those that share the storage and apply different things.
    pub fn builder(storage: S, consumer: &str) -> InboxBuilder<S> {
        Self::builder_from(Arc::new(storage), consumer)
    }

    /// The same from a shared storage, for example when the program also uses its admin port.
    pub fn builder_from(storage: Arc<S>, consumer: &str) -> InboxBuilder<S> {
        InboxBuilder {
            storage,
            consumer: consumer.to_owned(),
            config: InboxConfig::default(),
            handlers: Handlers::new(),
            decoder: Arc::new(Standard::default()),
            derive: None,
        }
    }

    /// A handle to look at the inbox.
    pub fn handle(&self) -> InboxHandle {
        InboxHandle { shared: self.context.shared.clone() }
    }

    /// Processes messages until `shutdown` resolves, then drains: takes no more, waits for the transactions that are open,
    /// acknowledges, and leaves, for at most `shutdown_timeout`.
    ///
    /// A database or a broker that cannot be reached is waited for, at the start and later; see [`InboxHandle::health`].
    ///
    /// # Errors
    ///
    /// [`InboxError`]: the database or the broker must not be used as it is, or a partition went back.
    ///
    /// # Cancellation
    ///
    /// Dropping the future is as a crash: open transactions roll back, and what was not acknowledged is delivered again.
    pub async fn run(self, shutdown: impl Future<Output = ()>) -> Result<InboxReport, InboxError> {
        Engine::start(self.context, self.source, shutdown).await
    }
}

impl<S: InboxStorage> InboxBuilder<S> {
    /// Sets the whole configuration.
    pub fn config(mut self, config: InboxConfig) -> Self {
        self.config = config;
        self
    }

    /// Registers a handler for the event's type: an async function, or an async closure that captures nothing,
    /// `async |connection, event, delivery| …` ([`on_with`](Self::on_with) has state). A handler that is registered
    /// later for the same type takes its place.
    ///
    /// It works on the open transaction and must neither commit it nor roll it back. An error, a panic or a time-out is a failed
    /// attempt, and nothing of it is left in the database. What it does elsewhere is not undone, and may happen again.
    pub fn on<E, X, F>(self, handler: F) -> Self
    where
        E: Event + DeserializeOwned + Send + 'static,
        X: Into<Failure> + Send + 'static,
        F: Send + Sync + 'static,
        for<'a, 'b> F: HandlerFn<&'a mut S::Connection, E, &'b Delivery, Result<(), X>, Fut: Send>,
    {
        let types = PhantomData::<fn() -> (E, X)>;
        self.register(E::EVENT_TYPE, Typed { state: Stateless, handler, types })
    }

    /// Registers a handler of a type's messages as they are: `async |connection, delivery| …`.
    pub fn on_raw<X, F>(self, event_type: &str, handler: F) -> Self
    where
        X: Into<Failure> + Send + 'static,
        F: Send + Sync + 'static,
        for<'a, 'b> F: RawHandlerFn<&'a mut S::Connection, &'b Delivery, Result<(), X>, Fut: Send>,
    {
        self.register(event_type, Raw { state: Stateless, handler, types: PhantomData::<fn() -> X> })
    }

    /// As [`on`](Self::on), for a handler that needs something, for instance an outbox to append to:
    /// `async |state: &T, connection, event, delivery| …`.
    pub fn on_with<T, E, X, F>(self, state: T, handler: F) -> Self
    where
        T: Send + Sync + 'static,
        E: Event + DeserializeOwned + Send + 'static,
        X: Into<Failure> + Send + 'static,
        F: Send + Sync + 'static,
        for<'s, 'a, 'b> F: StateHandlerFn<&'s T, &'a mut S::Connection, E, &'b Delivery, Result<(), X>, Fut: Send>,
    {
        let types = PhantomData::<fn() -> (E, X)>;
        self.register(E::EVENT_TYPE, Typed { state: State(state), handler, types })
    }

    /// As [`on_raw`](Self::on_raw), for a handler that needs something: `async |state: &T, connection, delivery| …`.
    pub fn on_raw_with<T, X, F>(self, event_type: &str, state: T, handler: F) -> Self
    where
        T: Send + Sync + 'static,
        X: Into<Failure> + Send + 'static,
        F: Send + Sync + 'static,
        for<'s, 'a, 'b> F: HandlerFn<&'s T, &'a mut S::Connection, &'b Delivery, Result<(), X>, Fut: Send>,
    {
        self.register(event_type, Raw { state: State(state), handler, types: PhantomData::<fn() -> X> })
    }

    fn register(mut self, event_type: &str, handler: impl Handler<S::Connection> + 'static) -> Self {
        if !self.handlers.insert(event_type, handler) {
            tracing::warn!(event_type, "a second handler for this type takes the place of the first");
        }
        self
    }

    /// Sets how messages are read. Default: [`Standard`].
    pub fn decoder(mut self, decoder: impl Decoder) -> Self {
        self.decoder = Arc::new(decoder);
        self
    }

    /// Derives the identity of messages that carry none. It must give the same message the same identity, always. Without it, and for
    /// messages of which it knows none, they become dead letters `no_id`.
    pub fn derive_identity(mut self, derive: impl Fn(&Incoming) -> Option<Identity> + Send + Sync + 'static) -> Self {
        self.derive = Some(Box::new(derive));
        self
    }

    /// Sets where messages come from.
    pub fn source(self, source: impl Source) -> InboxBuilderWithSource<S> {
        self.source_from(Arc::new(source))
    }

    /// The same from a shared source.
    pub fn source_from(self, source: Arc<dyn Source>) -> InboxBuilderWithSource<S> {
        InboxBuilderWithSource { builder: self, source }
    }
}

impl<S: InboxStorage> InboxBuilderWithSource<S> {
    /// Checks the configuration and makes the inbox.
    ///
    /// # Errors
    ///
    /// [`InvalidConfig`], naming key, value and what is allowed.
    pub fn build(self) -> Result<Inbox<S>, InvalidConfig> {
        let Self { builder, source } = self;
        let InboxBuilder { storage, consumer, config, handlers, decoder, derive } = builder;
        config.validate()?;
        let consumer = Consumer::new(&consumer).map_err(|_| InvalidConfig {
            key: "consumer",
            value: format!("a name of {} bytes", consumer.len()),
            allowed: "1 to 255 bytes without a NUL",
        })?;
        if handlers.is_empty() {
            let (key, value) = ("handlers", "none".to_owned());
            return Err(InvalidConfig { key, value, allowed: "at least one: call on or on_raw" });
        }
        let rng = Mutex::new(new_rng(&config));
        let shared = Arc::new(Shared::default());
        let losses = Losses::default();
        let context = Context { storage, consumer, config, handlers, decoder, derive, shared, losses, rng };
        Ok(Inbox { context: Arc::new(context), source })
    }
}

fn new_rng(config: &InboxConfig) -> StdRng {
    #[cfg(feature = "simulation")]
    if let Some(seed) = config.seed {
        return StdRng::seed_from_u64(seed);
    }
    let _ = config;
    StdRng::from_rng(&mut rand::rng())
}
