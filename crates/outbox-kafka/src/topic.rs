use std::borrow::Cow;

use outbox_core::Message;

use crate::BuildError;

/// Longest topic name that Kafka takes, in bytes.
const MAX_TOPIC_BYTES: usize = 249;

/// Why Kafka would not take a topic name, `None` when it would.
///
/// Source: `Topic.validate` of Apache Kafka.
pub(crate) fn topic_fault(name: &str) -> Option<String> {
    if name.is_empty() {
        return Some("the topic name is empty".to_owned());
    }
    if name.len() > MAX_TOPIC_BYTES {
        return Some(format!("the topic name has {} bytes, the limit is {MAX_TOPIC_BYTES}", name.len()));
    }
    if name == "." || name == ".." {
        return Some(format!("the topic name {name:?} is reserved by Kafka"));
    }
    let bad = name.chars().find(|c| !(c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-')))?;
    Some(format!("the topic name {name:?} holds {bad:?}: only ASCII letters, digits, '.', '_' and '-' are allowed"))
}

/// A topic name with fields of the message: `{aggregate_type}`, `{event_type}`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TopicTemplate {
    parts: Vec<Part>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Text(String),
    AggregateType,
    EventType,
}

impl TopicTemplate {
    pub(crate) fn parse(template: &str) -> Result<Self, BuildError> {
        let fault = |fault: String| BuildError::Template { template: template.to_owned(), fault };
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
        if parts.is_empty() {
            return Err(fault("is empty: name a topic or use {aggregate_type}".to_owned()));
        }
        let text: String =
            parts.iter().filter_map(|part| if let Part::Text(text) = part { Some(&**text) } else { None }).collect();
        // With a letter for every field only the fixed text can be at fault.
        match topic_fault(&format!("{text}{}", "x".repeat(parts.len()))) {
            Some(found) => Err(fault(format!("can never be a topic: {found}"))),
            None => Ok(Self { parts }),
        }
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

    fn render(template: &str) -> String {
        TopicTemplate::parse(template).unwrap().render(&message("order", None)).into_owned()
    }

    #[test]
    fn a_template_takes_fields_of_the_message() {
        assert_eq!(render("{aggregate_type}"), "order");
        assert_eq!(render("shop.{aggregate_type}.{event_type}.v1"), "shop.order.order.placed.v1");
        assert_eq!(render("everything"), "everything");
    }

    #[test]
    fn a_template_that_can_never_work_is_refused_with_its_fault() {
        for (template, fault) in [
            ("", "is empty"),
            ("{aggregate_id}", "unknown field \"aggregate_id\": use {aggregate_type} or {event_type}"),
            ("a{event_type", "'{' without its '}'"),
            ("a}b", "'}' without its '{'"),
            ("a b", "holds ' '"),
            (&"x".repeat(250), "the limit is 249"),
        ] {
            let error = TopicTemplate::parse(template).unwrap_err().to_string();
            assert!(error.contains(fault), "{template}: {error}");
        }
    }

    #[test]
    fn topic_names_that_kafka_refuses_are_found() {
        for name in ["", ".", "..", "a/b", "größe", &"x".repeat(250)] {
            assert!(topic_fault(name).is_some(), "{name}");
        }
        for name in ["order", "shop.order_v1-x", "...", &"x".repeat(249)] {
            assert_eq!(topic_fault(name), None, "{name}");
        }
    }
}
