//! Typed events.

use std::borrow::Cow;

use serde::Serialize;

use crate::message::{InvalidMessage, NewMessage};

/// An event with a type, appended as JSON.
///
/// ```
/// use outbox_core::{Event, NewMessage};
///
/// #[derive(serde::Serialize)]
/// struct OrderPlaced { order_id: u64, total_cents: i64 }
///
/// impl Event for OrderPlaced {
///     const AGGREGATE_TYPE: &'static str = "order";
///     const EVENT_TYPE: &'static str = "order.placed";
///     fn aggregate_id(&self) -> Option<String> { Some(self.order_id.to_string()) }
/// }
///
/// let message = NewMessage::of(&OrderPlaced { order_id: 7, total_cents: 1250 })?;
/// assert_eq!(message.payload.as_ref(), br#"{"order_id":7,"total_cents":1250}"#);
/// # Ok::<(), outbox_core::InvalidMessage>(())
/// ```
pub trait Event: Serialize {
    /// What changes, for example `order`. Routes to a topic.
    const AGGREGATE_TYPE: &'static str;
    /// What happened, for example `order.placed`.
    const EVENT_TYPE: &'static str;

    /// Which aggregate: the ordering and partition key. `None`: no order is wanted.
    fn aggregate_id(&self) -> Option<String>;
}

/// What can be appended: a [`NewMessage`], or a typed [`Event`], which becomes one.
///
/// Implemented for both; there is nothing to implement yourself.
pub trait ToMessage: sealed::Sealed {
    /// The message to append, not yet checked against any limits.
    ///
    /// # Errors
    ///
    /// [`InvalidMessage::Payload`] when a typed event cannot be serialized.
    fn to_message(&self) -> Result<Cow<'_, NewMessage>, InvalidMessage>;
}

impl ToMessage for NewMessage {
    fn to_message(&self) -> Result<Cow<'_, NewMessage>, InvalidMessage> {
        Ok(Cow::Borrowed(self))
    }
}

impl<E: Event> ToMessage for E {
    fn to_message(&self) -> Result<Cow<'_, NewMessage>, InvalidMessage> {
        NewMessage::of(self).map(Cow::Owned)
    }
}

mod sealed {
    pub trait Sealed {}
    impl Sealed for super::NewMessage {}
    impl<E: super::Event> Sealed for E {}
}
