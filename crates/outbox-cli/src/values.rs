//! Values with units, as people write them in flags and environment variables.

use std::time::Duration;

/// Parses `500ms`, `15s`, `5m`, `1h`. The unit is required, so that nobody confuses seconds with milliseconds.
///
/// # Errors
///
/// What is allowed.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    const ALLOWED: &str = "a number with a unit, for example 500ms, 15s, 5m or 1h";
    let (number, unit) = split(text).ok_or(ALLOWED)?;
    let seconds = match unit {
        "ms" => number / 1000.0,
        "s" => number,
        "m" | "min" => number * 60.0,
        "h" => number * 3600.0,
        _ => return Err(ALLOWED.to_owned()),
    };
    Duration::try_from_secs_f64(seconds).map_err(|_| "a duration that is not negative and below 500 years".to_owned())
}

/// Parses `65536`, `64KiB`, `8MiB`, `1GiB`, `16MB`.
///
/// # Errors
///
/// What is allowed.
pub(crate) fn bytes(text: &str) -> Result<usize, String> {
    const ALLOWED: &str = "a number of bytes, for example 1048576, 64KiB, 8MiB or 1GiB";
    let (number, unit) = split(text).ok_or(ALLOWED)?;
    let factor = match unit {
        "" | "B" => 1.0,
        "KiB" => 1024.0,
        "MiB" => 1024.0 * 1024.0,
        "GiB" => 1024.0 * 1024.0 * 1024.0,
        "kB" | "KB" => 1e3,
        "MB" => 1e6,
        "GB" => 1e9,
        _ => return Err(ALLOWED.to_owned()),
    };
    let size = number * factor;
    if size < 0.0 || size.fract() != 0.0 || size > 2f64.powi(52) {
        return Err(ALLOWED.to_owned());
    }
    Ok(size as usize)
}

/// Parses `KEY=VALUE`.
///
/// # Errors
///
/// What is allowed; the text is not repeated, it may hold a secret.
pub(crate) fn key_value(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.trim().is_empty() => Ok((key.trim().to_owned(), value.to_owned())),
        _ => Err("KEY=VALUE, for example linger.ms=5".to_owned()),
    }
}

/// A whole number with thousands separated: `12,345`.
pub(crate) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// A duration for people: `0.8 ms`, `12 ms`, `3.4 s`.
pub(crate) fn spoken(duration: Duration) -> String {
    let ms = duration.as_secs_f64() * 1e3;
    match ms {
        ms if ms < 10.0 => format!("{ms:.1} ms"),
        ms if ms < 1000.0 => format!("{ms:.0} ms"),
        ms if ms < 120_000.0 => format!("{:.1} s", ms / 1e3),
        ms => format!("{:.0} min", ms / 6e4),
    }
}

/// A text of at most `columns` characters, with an ellipsis when it was longer.
pub(crate) fn shortened(text: &str, columns: usize) -> String {
    if text.chars().count() <= columns {
        return text.to_owned();
    }
    text.chars().take(columns.saturating_sub(1)).chain(['…']).collect()
}

fn split(text: &str) -> Option<(f64, &str)> {
    let text = text.trim();
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let number = text[..end].parse().ok()?;
    Some((number, text[end..].trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_need_a_unit() {
        assert_eq!(duration("1.5s"), Ok(Duration::from_millis(1500)));
        assert_eq!(duration("5m"), Ok(Duration::from_secs(300)));
        assert_eq!(duration("0ms"), Ok(Duration::ZERO));
        for wrong in ["5", "s", "", "-1s", "5 parsecs", "99999999999999999999h"] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn bytes_are_plain_or_have_a_unit() {
        assert_eq!(bytes("8MiB"), Ok(8 << 20));
        assert_eq!(bytes("1048576"), Ok(1 << 20));
        for wrong in ["", "8 MiBs", "-1", "0.3B", "many"] {
            assert!(bytes(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_pair_needs_a_key() {
        assert_eq!(key_value("a.b=c=d"), Ok(("a.b".to_owned(), "c=d".to_owned())));
        assert!(key_value("=x").is_err() && key_value("x").is_err());
    }

    #[test]
    fn a_long_text_ends_in_an_ellipsis() {
        assert_eq!((shortened("añb", 3), shortened("añbc", 3)), ("añb".into(), "añ…".into()));
    }

    #[test]
    fn numbers_are_grouped_by_thousands() {
        assert_eq!((grouped(7), grouped(1_000), grouped(1_234_567)), ("7".into(), "1,000".into(), "1,234,567".into()));
    }
}
