use std::collections::BTreeMap;
use std::marker::PhantomData;

use futures_util::future::BoxFuture;
use outbox_core::Event;
use serde::de::DeserializeOwned;

use crate::Delivery;

/// What a handler says went wrong. Its text is kept in the database for operators: put no secrets in it.
pub type Failure = Box<dyn std::error::Error + Send + Sync>;

macro_rules! async_fn {
    ($(#[$doc:meta])* $name:ident<$($arg:ident),+>) => {
        $(#[$doc])*
        ///
        /// Implemented for all async functions and for async closures that capture nothing; there is nothing to implement yourself. (A closure
        /// that captures lends itself to its future, which stable Rust cannot say to be `Send`: pass what it needs as the state.)
        pub trait $name<$($arg,)+ R>: AsyncFn($($arg),+) -> R + Fn($($arg),+) -> <Self as $name<$($arg,)+ R>>::Fut {
            /// What a call returns.
            type Fut: Future<Output = R>;
        }

        impl<F, $($arg,)+ R, Fut> $name<$($arg,)+ R> for F
        where
            F: AsyncFn($($arg),+) -> R + Fn($($arg),+) -> Fut,
            Fut: Future<Output = R>,
        {
            type Fut = Fut;
        }
    };
}

async_fn! {
    /// A handler of a message as it is: connection and delivery.
    RawHandlerFn<C, D>
}
async_fn! {
    /// A handler: connection, event and delivery. Or, for messages as they are, state, connection and delivery.
    HandlerFn<C, E, D>
}
async_fn! {
    /// A handler with state: state, connection, event and delivery.
    StateHandlerFn<T, C, E, D>
}

/// What became of a call.
pub(crate) enum Called {
    Done,
    /// The payload is not what the handler's event is; nothing was called.
    Undecodable(String),
    Failed(Failure),
}

/// A registered handler.
pub(crate) trait Handler<C>: Send + Sync {
    fn call<'a>(&'a self, connection: &'a mut C, delivery: &'a Delivery) -> BoxFuture<'a, Called>;
}

/// Handlers by event type.
pub(crate) struct Handlers<C> {
    by_type: BTreeMap<String, Box<dyn Handler<C>>>,
}

impl<C: Send + 'static> Handlers<C> {
    pub(crate) fn new() -> Self {
        Self { by_type: BTreeMap::new() }
    }

    pub(crate) fn get(&self, event_type: &str) -> Option<&dyn Handler<C>> {
        self.by_type.get(event_type).map(Box::as_ref)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.by_type.is_empty()
    }

    /// `false`: there was one for this type, which is replaced.
    pub(crate) fn insert(&mut self, event_type: &str, handler: impl Handler<C> + 'static) -> bool {
        self.by_type.insert(event_type.to_owned(), Box::new(handler)).is_none()
    }
}

/// A handler of an event, and what it says to the compiler: the event's and the error's types.
pub(crate) struct Typed<T, F, E, X> {
    pub(crate) state: T,
    pub(crate) handler: F,
    pub(crate) types: PhantomData<fn() -> (E, X)>,
}

/// No state.
pub(crate) struct Stateless;

impl<C, E, X, F> Handler<C> for Typed<Stateless, F, E, X>
where
    C: Send,
    E: Event + DeserializeOwned + Send + 'static,
    X: Into<Failure> + Send + 'static,
    F: Send + Sync,
    for<'a, 'b> F: HandlerFn<&'a mut C, E, &'b Delivery, Result<(), X>, Fut: Send>,
{
    fn call<'a>(&'a self, connection: &'a mut C, delivery: &'a Delivery) -> BoxFuture<'a, Called> {
        match decode(delivery) {
            Ok(event) => boxed((self.handler)(connection, event, delivery)),
            Err(undecodable) => Box::pin(std::future::ready(undecodable)),
        }
    }
}

/// State that a handler gets by reference.
pub(crate) struct State<T>(pub(crate) T);

impl<C, T, E, X, F> Handler<C> for Typed<State<T>, F, E, X>
where
    C: Send,
    T: Send + Sync,
    E: Event + DeserializeOwned + Send + 'static,
    X: Into<Failure> + Send + 'static,
    F: Send + Sync,
    for<'s, 'a, 'b> F: StateHandlerFn<&'s T, &'a mut C, E, &'b Delivery, Result<(), X>, Fut: Send>,
{
    fn call<'a>(&'a self, connection: &'a mut C, delivery: &'a Delivery) -> BoxFuture<'a, Called> {
        match decode(delivery) {
            Ok(event) => boxed((self.handler)(&self.state.0, connection, event, delivery)),
            Err(undecodable) => Box::pin(std::future::ready(undecodable)),
        }
    }
}

/// A handler of messages as they are.
pub(crate) struct Raw<T, F, X> {
    pub(crate) state: T,
    pub(crate) handler: F,
    pub(crate) types: PhantomData<fn() -> X>,
}

impl<C, X, F> Handler<C> for Raw<Stateless, F, X>
where
    C: Send,
    X: Into<Failure> + Send + 'static,
    F: Send + Sync,
    for<'a, 'b> F: RawHandlerFn<&'a mut C, &'b Delivery, Result<(), X>, Fut: Send>,
{
    fn call<'a>(&'a self, connection: &'a mut C, delivery: &'a Delivery) -> BoxFuture<'a, Called> {
        boxed((self.handler)(connection, delivery))
    }
}

impl<C, T, X, F> Handler<C> for Raw<State<T>, F, X>
where
    C: Send,
    T: Send + Sync,
    X: Into<Failure> + Send + 'static,
    F: Send + Sync,
    for<'s, 'a, 'b> F: HandlerFn<&'s T, &'a mut C, &'b Delivery, Result<(), X>, Fut: Send>,
{
    fn call<'a>(&'a self, connection: &'a mut C, delivery: &'a Delivery) -> BoxFuture<'a, Called> {
        boxed((self.handler)(&self.state.0, connection, delivery))
    }
}

fn boxed<'a, X: Into<Failure> + 'a>(call: impl Future<Output = Result<(), X>> + Send + 'a) -> BoxFuture<'a, Called> {
    Box::pin(async move { call.await.map_or_else(|error| Called::Failed(error.into()), |()| Called::Done) })
}

fn decode<E: DeserializeOwned>(delivery: &Delivery) -> Result<E, Called> {
    serde_json::from_slice::<E>(delivery.payload.as_ref()).map_err(|error| {
        // its text may quote the payload
        let (line, column) = (error.line(), error.column());
        let what = match error.classify() {
            serde_json::error::Category::Data => "is not what the event needs",
            _ => "is no JSON",
        };
        Called::Undecodable(format!("the payload {what} (line {line}, column {column})"))
    })
}
