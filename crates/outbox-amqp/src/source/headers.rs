use bytes::Bytes;
use lapin::types::{AMQPValue, DecimalValue, FieldTable};
use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// The value of a header as the bytes that the inbox gets.
pub(super) fn bytes_of(value: &AMQPValue) -> Bytes {
    match value {
        AMQPValue::LongString(text) => text.as_bytes().to_vec().into(),
        AMQPValue::ByteArray(bytes) => bytes.as_slice().to_vec().into(),
        AMQPValue::ShortString(text) => text.as_str().to_owned().into(),
        AMQPValue::Boolean(flag) => flag.to_string().into(),
        AMQPValue::ShortShortInt(number) => number.to_string().into(),
        AMQPValue::ShortShortUInt(number) => number.to_string().into(),
        AMQPValue::ShortInt(number) => number.to_string().into(),
        AMQPValue::ShortUInt(number) => number.to_string().into(),
        AMQPValue::LongInt(number) => number.to_string().into(),
        AMQPValue::LongUInt(number) => number.to_string().into(),
        AMQPValue::LongLongInt(number) => number.to_string().into(),
        AMQPValue::Float(number) => number.to_string().into(),
        AMQPValue::Double(number) => number.to_string().into(),
        AMQPValue::DecimalValue(decimal) => decimal_text(*decimal).into(),
        AMQPValue::Timestamp(seconds) => time_text(*seconds).into(),
        AMQPValue::FieldArray(_) | AMQPValue::FieldTable(_) => json_of(value).to_string().into(),
        AMQPValue::Void => Bytes::new(),
    }
}

/// A nested value: numbers, flags and nothing as JSON has them, the rest as text; bytes that are no UTF-8 as `{"hex": "…"}`.
fn json_of(value: &AMQPValue) -> Value {
    match value {
        AMQPValue::Boolean(flag) => json!(flag),
        AMQPValue::ShortShortInt(number) => json!(number),
        AMQPValue::ShortShortUInt(number) => json!(number),
        AMQPValue::ShortInt(number) => json!(number),
        AMQPValue::ShortUInt(number) => json!(number),
        AMQPValue::LongInt(number) => json!(number),
        AMQPValue::LongUInt(number) => json!(number),
        AMQPValue::LongLongInt(number) => json!(number),
        AMQPValue::Float(number) if number.is_finite() => json!(number),
        AMQPValue::Double(number) if number.is_finite() => json!(number),
        AMQPValue::FieldArray(values) => values.as_slice().iter().map(json_of).collect(),
        AMQPValue::FieldTable(table) => table_of(table),
        AMQPValue::Void => Value::Null,
        other => {
            let bytes = bytes_of(other);
            match std::str::from_utf8(&bytes) {
                Ok(text) => json!(text),
                Err(_) => json!({ "hex": bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>() }),
            }
        }
    }
}

fn table_of(table: &FieldTable) -> Value {
    Value::Object(table.inner().iter().map(|(name, value)| (name.to_string(), json_of(value))).collect())
}

/// AMQP 0-9-1, section 4.2.5.6: an integer, and how many of its digits are behind the point.
fn decimal_text(DecimalValue { scale, value }: DecimalValue) -> String {
    let scale = usize::from(scale);
    let digits = format!("{value:0>width$}", width = scale + 1);
    let (whole, fraction) = digits.split_at(digits.len() - scale);
    if fraction.is_empty() { whole.to_owned() } else { format!("{whole}.{fraction}") }
}

/// RFC 3339 in UTC, as CloudEvents write times; the bare seconds where no calendar has such a year.
fn time_text(seconds: u64) -> String {
    let time = i64::try_from(seconds).ok().and_then(|seconds| OffsetDateTime::from_unix_timestamp(seconds).ok());
    time.and_then(|time| time.format(&Rfc3339).ok()).unwrap_or_else(|| seconds.to_string())
}

#[cfg(test)]
mod tests {
    use lapin::types::{ByteArray, FieldArray};

    use super::*;

    fn text_of(value: &AMQPValue) -> String {
        String::from_utf8(bytes_of(value).to_vec()).unwrap()
    }

    #[test]
    fn texts_and_bytes_are_as_they_are() {
        assert_eq!(bytes_of(&AMQPValue::LongString(vec![0xff, 0].into()))[..], [0xff, 0]);
        assert_eq!(bytes_of(&AMQPValue::ByteArray(ByteArray::from(vec![1, 2])))[..], [1, 2]);
        assert_eq!(text_of(&AMQPValue::ShortString("ü".into())), "ü");
        assert_eq!(text_of(&AMQPValue::Void), "");
    }

    #[test]
    fn numbers_flags_and_times_are_text() {
        let decimal = |scale, value| AMQPValue::DecimalValue(DecimalValue { scale, value });
        for (value, text) in [
            (AMQPValue::Boolean(true), "true"),
            (AMQPValue::LongLongInt(i64::MIN), "-9223372036854775808"),
            (AMQPValue::Double(1.5), "1.5"),
            (decimal(2, 1_250), "12.50"),
            (decimal(3, 5), "0.005"),
            (decimal(0, 7), "7"),
            (AMQPValue::Timestamp(1_795_256_430), "2026-11-21T10:20:30Z"),
            (AMQPValue::Timestamp(u64::MAX), "18446744073709551615"),
        ] {
            assert_eq!(text_of(&value), text);
        }
    }

    #[test]
    fn tables_and_arrays_are_json() {
        let mut table = FieldTable::default();
        table.insert("count".into(), AMQPValue::LongLongInt(2));
        table.insert("queue".into(), AMQPValue::LongString("a\"b".into()));
        table.insert("raw".into(), AMQPValue::LongString(vec![0xff].into()));
        table.insert("nothing".into(), AMQPValue::Void);
        table.insert("nan".into(), AMQPValue::Double(f64::NAN));
        let array = AMQPValue::FieldArray(FieldArray::from(vec![AMQPValue::FieldTable(table)]));
        let expected = r#"[{"count":2,"nan":"NaN","nothing":null,"queue":"a\"b","raw":{"hex":"ff"}}]"#;
        assert_eq!(text_of(&array), expected);
    }
}
