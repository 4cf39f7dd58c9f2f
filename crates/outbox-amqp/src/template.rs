use std::borrow::Cow;

use outbox_core::Message;

use crate::BuildError;
use crate::destination::MAX_NAME_BYTES;

/// A text with fields of the message: `{aggregate_type}`, `{event_type}`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Template {
    parts: Vec<Part>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Text(String),
    AggregateType,
    EventType,
}

impl Template {
    /// Parses the template that the builder's method `field` was given. An empty one is the empty text.
    pub(crate) fn parse(field: &'static str, template: &str) -> Result<Self, BuildError> {
        let fault = |fault: String| BuildError::Template { field, template: template.to_owned(), fault };
        let mut parts = Vec::new();
        let mut rest = template;
        while let Some(open) = rest.find(['{', '}']) {
            let (text, from_brace) = rest.split_at(open);
            push_text(&mut parts, text);
            let field = from_brace.strip_prefix('{').ok_or_else(|| fault("has a '}' without its '{'".to_owned()))?;
            let (field, after) = field.split_once('}').ok_or_else(|| fault("has a '{' without its '}'".to_owned()))?;
            parts.push(match field {
                "aggregate_type" => Part::AggregateType,
                "event_type" => Part::EventType,
                other => {
                    let fields = "use {aggregate_type} or {event_type}";
                    return Err(fault(format!("has the unknown field {other:?}: {fields}")));
                }
            });
            rest = after;
        }
        push_text(&mut parts, rest);
        // With any message it would be longer still, and every message a dead letter.
        let bytes = parts.iter().map(|part| if let Part::Text(text) = part { text.len() } else { 0 }).sum();
        if bytes > MAX_NAME_BYTES {
            return Err(BuildError::TooLong { field, bytes });
        }
        Ok(Self { parts })
    }

    pub(crate) fn render<'m>(&'m self, message: &'m Message) -> Cow<'m, str> {
        match self.parts.as_slice() {
            [part] => Cow::Borrowed(part.text(message)),
            parts => Cow::Owned(parts.iter().map(|part| part.text(message)).collect()),
        }
    }
}

impl Part {
    fn text<'m>(&'m self, message: &'m Message) -> &'m str {
        match self {
            Self::Text(text) => text,
            Self::AggregateType => &message.aggregate_type,
            Self::EventType => &message.event_type,
        }
    }
}

fn push_text(parts: &mut Vec<Part>, text: &str) {
    if !text.is_empty() {
        parts.push(Part::Text(text.to_owned()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::message;

    #[test]
    fn a_template_takes_fields_of_the_message() {
        for (template, text) in [
            ("{aggregate_type}.{event_type}", "order.order.placed"),
            ("shop.{aggregate_type}.v1", "shop.order.v1"),
            ("orders", "orders"),
            ("", ""),
        ] {
            let template = Template::parse("routing_key", template).unwrap();
            assert_eq!(template.render(&message("order", None)), text);
        }
    }

    #[test]
    fn a_template_that_can_never_work_is_refused_with_its_fault() {
        for (template, fault) in [
            ("{aggregate_id}", "unknown field \"aggregate_id\": use {aggregate_type} or {event_type}"),
            ("a{event_type", "'{' without its '}'"),
            ("a}b", "'}' without its '{'"),
            (&*format!("{}{{event_type}}", "x".repeat(300)), "has 300 bytes, the limit is 255"),
        ] {
            let error = Template::parse("exchange", template).unwrap_err().to_string();
            assert!(error.starts_with("exchange") && error.contains(fault), "{template}: {error}");
        }
    }
}
