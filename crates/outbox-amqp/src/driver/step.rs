use std::sync::Arc;

use bytes::Bytes;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use lapin::message::BasicReturnMessage;
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::{BasicProperties, Channel, Confirmation, Connection};
use uuid::Uuid;

use crate::destination::Address;

/// Something that the driver waits for.
pub(super) type Step = BoxFuture<'static, StepDone>;

pub(super) enum StepDone {
    /// A channel is open and confirms what is published on it.
    Opened { line: usize, result: lapin::Result<Channel> },
    /// A channel that was not needed any more is closed.
    Closed { line: usize },
    /// A message has its confirm, or never will.
    Confirmed { line: usize, message: u64, result: lapin::Result<Receipt> },
    /// Everything of the line that was ready before was looked at.
    Marker { line: usize },
    /// The broker or lapin did what cannot be: nothing of the session can be trusted.
    Nonsense { what: &'static str },
}

/// What the broker said of a message.
pub(super) struct Receipt {
    pub(super) is_ack: bool,
    /// The id of a returned message that came along: this one or another.
    pub(super) returned: Option<Uuid>,
}

pub(super) fn open(line: usize, connection: Arc<Connection>) -> Step {
    let open = async move {
        let channel = connection.create_channel().await?;
        channel.confirm_select(ConfirmSelectOptions::default()).await?;
        Ok(channel)
    };
    open.map(move |result| StepDone::Opened { line, result }).boxed()
}

/// Closes a channel on which nothing is open. Whether that works is of no interest: the channel is not used again.
pub(super) fn close(line: usize, channel: Channel) -> Step {
    async move { drop(channel.close(200, "OK".into()).await) }.map(move |()| StepDone::Closed { line }).boxed()
}

/// Publishes a message when first polled, and waits for its confirm.
pub(super) fn publish(
    line: usize,
    message: u64,
    channel: Channel,
    address: Arc<Address>,
    properties: BasicProperties,
    body: Bytes,
) -> Step {
    let publish = async move {
        let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
        let Address { exchange, routing_key } = &*address;
        channel.basic_publish(exchange.clone(), routing_key.clone(), options, &body, properties).await?.await
    };
    publish.map(move |result| done(line, message, result)).boxed()
}

/// Comes back after everything that is ready now: what is ready is polled in the order in which it became so.
pub(super) fn marker(line: usize) -> Step {
    std::future::ready(StepDone::Marker { line }).boxed()
}

fn done(line: usize, message: u64, result: lapin::Result<Confirmation>) -> StepDone {
    let (is_ack, returned) = match result {
        Ok(Confirmation::Ack(returned)) => (true, returned),
        Ok(Confirmation::Nack(returned)) => (false, returned),
        Ok(Confirmation::NotRequested) => {
            return StepDone::Nonsense { what: "the broker does not confirm what is published" };
        }
        Err(error) => return StepDone::Confirmed { line, message, result: Err(error) },
    };
    let returned = match returned.as_ref().map(id_of) {
        None => None,
        Some(Some(id)) => Some(id),
        Some(None) => return StepDone::Nonsense { what: "the broker returned a message without its message_id" },
    };
    StepDone::Confirmed { line, message, result: Ok(Receipt { is_ack, returned }) }
}

fn id_of(returned: &BasicReturnMessage) -> Option<Uuid> {
    returned.delivery.properties.message_id().as_ref()?.as_str().parse().ok()
}
