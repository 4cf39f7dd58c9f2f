//! Keeps passwords out of everything that is printed.

use std::fmt;

/// What stands for a secret.
const MASK: &str = "***";

/// Texts that must never be printed, collected from the arguments and the environment.
#[derive(Default, Clone)]
pub(crate) struct Secrets {
    values: Vec<String>,
}

impl Secrets {
    /// Remembers a secret. Texts shorter than 3 characters are left out: masking them would eat ordinary words.
    pub(crate) fn add(&mut self, secret: impl Into<String>) {
        let secret = secret.into();
        if secret.chars().count() >= 3 {
            self.values.push(secret);
        }
    }

    /// Remembers the password in `scheme://user:password@host`, when there is one.
    pub(crate) fn add_password_of(&mut self, url: &str) {
        let authority = url.split_once("://").map_or("", |(_, rest)| rest);
        if let Some((_, password)) = authority.rsplit_once('@').and_then(|(user, _)| user.split_once(':')) {
            self.add(password);
        }
    }

    /// The text without any secret: neither the remembered ones nor the password of any URL.
    pub(crate) fn redact(&self, text: &str) -> String {
        let mut text = redact_urls(text);
        for value in &self.values {
            text = text.replace(value, MASK);
        }
        text
    }
}

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Secrets({})", self.values.len())
    }
}

/// Whether a librdkafka property holds a secret.
pub(crate) fn is_secret_property(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    ["password", "secret", "token", "jaas", ".pem", "ssl.key", "oauthbearer.config"]
        .iter()
        .any(|part| name.contains(part))
}

/// Masks the password in every `scheme://user:password@host` and in every `password=` parameter of a text.
pub(crate) fn redact_urls(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("://") {
        let (before, after) = rest.split_at(at + 3);
        out.push_str(before);
        let end =
            after.find(|c: char| c.is_whitespace() || matches!(c, '"' | '\'' | '`' | '<' | '>')).unwrap_or(after.len());
        let (word, tail) = after.split_at(end);
        out.push_str(&redact_authority(word));
        rest = tail;
    }
    out.push_str(rest);
    out
}

/// The part of a URL after `://`: a password may itself hold `@` or `/`, so the last `@` ends it.
fn redact_authority(word: &str) -> String {
    let word = match word.rfind('@') {
        Some(end) => match word[..end].find(':') {
            Some(colon) => format!("{}:{MASK}{}", &word[..colon], &word[end..]),
            None => word.to_owned(),
        },
        None => word.to_owned(),
    };
    let Some(start) = word.find("password=") else { return word };
    let value = start + "password=".len();
    let end = word[value..].find('&').map_or(word.len(), |length| value + length);
    format!("{}{MASK}{}", &word[..value], &word[end..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_password_of_a_url_is_masked_wherever_it_stands() {
        let text = "cannot reach postgres://app:s3cr:e/t@db.example/orders?x=1 (tried twice)";
        assert_eq!(redact_urls(text), "cannot reach postgres://app:***@db.example/orders?x=1 (tried twice)");
        assert_eq!(redact_urls("postgres://db/orders?password=hush&a=b"), "postgres://db/orders?password=***&a=b");
        assert_eq!(redact_urls("postgres://app@db/orders and p@ss"), "postgres://app@db/orders and p@ss");
    }

    #[test]
    fn a_remembered_secret_is_masked_in_any_text() {
        let mut secrets = Secrets::default();
        secrets.add("hush-hush");
        secrets.add("a");
        assert_eq!(secrets.redact("sasl failed for hush-hush at all"), "sasl failed for *** at all");
    }

    #[test]
    fn properties_with_secrets_are_known_by_their_names() {
        assert!(is_secret_property("sasl.password") && is_secret_property("ssl.key.pem"));
        assert!(!is_secret_property("linger.ms"));
    }
}
