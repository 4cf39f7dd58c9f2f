//! Asks a queue that others declared whether it has a single active consumer.
//!
//! AMQP tells nobody the arguments of a queue. But declaring an existing queue changes nothing, and where arguments differ RabbitMQ answers with the
//! name of one and with its present value. So the queue is declared with the argument in question and, answer by answer, with the others as
//! they are, until the broker agrees or names the argument in question.

use lapin::options::QueueDeclareOptions;
use lapin::types::{AMQPValue, FieldTable, ShortString};
use lapin::{Connection, Error};
use outbox_core::inbox::{SourceError, SourceErrorKind};

use super::fault::refused;
use super::queue::SINGLE_ACTIVE_CONSUMER;
use crate::refusal::{Refusal, RefusalKind, Scope, scope};

/// More than RabbitMQ has arguments for queues.
const ROUNDS: usize = 40;

/// # Errors
///
/// [`SourceErrorKind::Refused`] when the queue has no single active consumer, is not there, or does not let itself be asked.
pub(super) async fn check_single_active_consumer(connection: &Connection, queue: &str) -> Result<(), SourceError> {
    // a queue that is not there must not be made by the question
    let passive = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
    declare(connection, queue, passive, FieldTable::default()).await.map_err(|error| refused(queue, &error))?;
    let mut guess = Guess::new();
    for _ in 0..ROUNDS {
        let Err(error) = declare(connection, queue, guess.options, guess.arguments.clone()).await else {
            return Ok(());
        };
        match scope(&error) {
            Scope::Channel(Refusal { kind: RefusalKind::PreconditionFailed, text }) => match guess.correct(&text) {
                Some(Correction::Made) => {}
                Some(Correction::NotSingleActive) => return Err(not_single_active(queue)),
                None => return Err(unknown(queue, &text)),
            },
            Scope::Channel(Refusal { kind: RefusalKind::AccessRefused, text }) => return Err(unknown(queue, &text)),
            _ => return Err(refused(queue, &error)),
        }
    }
    Err(unknown(queue, "the broker found another difference each time"))
}

async fn declare(
    connection: &Connection,
    queue: &str,
    options: QueueDeclareOptions,
    arguments: FieldTable,
) -> Result<(), Error> {
    let channel = connection.create_channel().await?; // a refusal closes it
    channel.queue_declare(queue.into(), options, arguments).await.map(drop)
}

/// What a queue may have been declared with.
struct Guess {
    options: QueueDeclareOptions,
    arguments: FieldTable,
}

#[derive(Debug, PartialEq, Eq)]
enum Correction {
    Made,
    NotSingleActive,
}

impl Guess {
    fn new() -> Self {
        let mut arguments = FieldTable::default();
        arguments.insert(SINGLE_ACTIVE_CONSUMER.into(), AMQPValue::Boolean(true));
        Self { options: QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() }, arguments }
    }

    /// Takes over what the broker said: `inequivalent arg 'name' for queue '…' in vhost '…': received … but current is …`. `None`: it said
    /// something else.
    fn correct(&mut self, text: &str) -> Option<Correction> {
        let (_, rest) = text.split_once("inequivalent arg '")?;
        let (name, rest) = rest.split_once('\'')?;
        let (_, current) = rest.rsplit_once(" but current is ")?;
        match name {
            SINGLE_ACTIVE_CONSUMER => return Some(Correction::NotSingleActive),
            "durable" => self.options.durable = flag(current)?,
            "auto_delete" => self.options.auto_delete = flag(current)?,
            name => {
                let name = ShortString::try_new(name).ok()?;
                self.arguments.insert(name, argument(current)?);
            }
        }
        Some(Correction::Made)
    }
}

/// `'true'`
fn flag(current: &str) -> Option<bool> {
    current.strip_prefix('\'')?.strip_suffix('\'')?.parse().ok()
}

/// `the value '20' of type 'signedint'`, or `'quorum'` alone, as newer versions say it of the queue's type.
fn argument(current: &str) -> Option<AMQPValue> {
    let Some(described) = current.strip_prefix("the value '") else {
        let bare = current.strip_prefix('\'')?.strip_suffix('\'')?;
        return Some(AMQPValue::LongString(bare.into()));
    };
    let (value, kind) = described.rsplit_once("' of type '")?;
    Some(match kind.strip_suffix('\'')? {
        "longstr" => AMQPValue::LongString(value.into()),
        "bool" => AMQPValue::Boolean(value.parse().ok()?),
        // the broker compares whole numbers of any width by their value
        "byte" | "short" | "signedint" | "long" | "unsignedbyte" | "unsignedshort" | "unsignedint" => {
            AMQPValue::LongLongInt(value.parse().ok()?)
        }
        _ => return None,
    })
}

fn not_single_active(queue: &str) -> SourceError {
    let message = format!(
        "queue {queue}: it has no {SINGLE_ACTIVE_CONSUMER}, so a second consumer would break the order of its messages: \
         declare it anew with that argument, or give up order (Order::None)"
    );
    SourceError::new(SourceErrorKind::Refused, message)
}

fn unknown(queue: &str, text: &str) -> SourceError {
    let message = format!(
        "queue {queue}: whether it has {SINGLE_ACTIVE_CONSUMER} cannot be found out: {text}: grant the consumer's user \
         configure on it, declare it through the source (DeclaredQueue), or vouch for it (Order::Trusted)"
    );
    SourceError::new(SourceErrorKind::Refused, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(name: &str, current: &str) -> String {
        let queue = "for queue 'it''s' in vhost '/'";
        format!("406 PRECONDITION_FAILED - inequivalent arg '{name}' {queue}: received none but current is {current}")
    }

    #[test]
    fn answers_of_the_broker_are_taken_over() {
        let mut guess = Guess::new();
        for (name, current) in [
            ("x-queue-type", "the value 'quorum' of type 'longstr'"),
            ("x-delivery-limit", "the value '20' of type 'signedint'"),
            ("x-dead-letter-exchange", "the value 'it's' of type 'longstr'"),
            ("durable", "'false'"),
        ] {
            assert_eq!(guess.correct(&answer(name, current)), Some(Correction::Made), "{name}");
        }
        let value = |name: &str| guess.arguments.inner().get(name).cloned();
        assert_eq!(value("x-queue-type"), Some(AMQPValue::LongString("quorum".into())));
        assert_eq!(value("x-delivery-limit"), Some(AMQPValue::LongLongInt(20)));
        assert_eq!(value("x-dead-letter-exchange"), Some(AMQPValue::LongString("it's".into())));
        assert!(!guess.options.durable);
        assert_eq!(guess.correct(&answer("x-queue-type", "'classic'")), Some(Correction::Made));
        assert_eq!(guess.arguments.inner().get("x-queue-type"), Some(&AMQPValue::LongString("classic".into())));
    }

    #[test]
    fn a_missing_or_false_argument_is_told_and_other_words_are_not_guessed_at() {
        let correct = |text: &str| Guess::new().correct(text);
        assert_eq!(correct(&answer(SINGLE_ACTIVE_CONSUMER, "none")), Some(Correction::NotSingleActive));
        let off = "the value 'false' of type 'bool'";
        assert_eq!(correct(&answer(SINGLE_ACTIVE_CONSUMER, off)), Some(Correction::NotSingleActive));
        assert_eq!(correct("406 PRECONDITION_FAILED - cannot redeclare"), None);
        assert_eq!(correct(&answer("x-queue-type", "the value 'quo")), None, "cut off");
    }
}
