//! What a plain YAML scalar means, and which ones two readers would take for different things.
//!
//! kubectl reads YAML 1.1, this reader YAML 1.2. The same file must mean the same to both, so whatever differs is
//! refused and has to be quoted or written otherwise.

use serde_json::{Number, Value};

/// A plain scalar that may not be written like this.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ambiguous {
    /// Why.
    pub message: String,
    /// What to write instead.
    pub hint: String,
}

/// What YAML 1.1 takes for a boolean and YAML 1.2 for text.
const OLD_BOOLEANS: [(&str, bool); 6] = [
    ("y", true),
    ("yes", true),
    ("on", true),
    ("n", false),
    ("no", false),
    ("off", false),
];

/// The value of a plain scalar.
///
/// # Errors
/// Where kubectl would read something else.
pub fn resolve(text: &str) -> Result<Value, Ambiguous> {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Ok(Value::Null),
        "true" | "True" | "TRUE" => return Ok(Value::Bool(true)),
        "false" | "False" | "FALSE" => return Ok(Value::Bool(false)),
        _ => {}
    }
    if let Some(meaning) = old_boolean(text) {
        return Err(Ambiguous {
            message: format!("kubectl reads a plain `{text}` as {meaning}, other readers as text"),
            hint: format!("write \"{text}\" for the text, or {meaning} for the boolean"),
        });
    }
    number(text).unwrap_or_else(|| Ok(Value::String(text.to_owned())))
}

fn old_boolean(text: &str) -> Option<bool> {
    let lower = text.to_lowercase();
    let capitalised = text.chars().next().is_some_and(char::is_uppercase)
        && text.chars().skip(1).all(char::is_lowercase);
    if text != lower && text != text.to_uppercase() && !capitalised {
        return None;
    }
    OLD_BOOLEANS
        .iter()
        .find(|(word, _)| *word == lower)
        .map(|(_, meaning)| *meaning)
}

/// The number that a plain scalar is; none where it is text to every reader.
fn number(text: &str) -> Option<Result<Value, Ambiguous>> {
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    if !unsigned.starts_with(|c: char| c.is_ascii_digit() || c == '.') {
        return None;
    }
    if matches!(unsigned.to_ascii_lowercase().as_str(), ".inf" | ".nan") {
        return Some(Err(ambiguous(
            text,
            "is no number that a document can hold",
        )));
    }
    if is_prefixed(unsigned) || is_grouped(unsigned) || has_leading_zero(unsigned) {
        return Some(Err(ambiguous(
            text,
            "is a number to some readers and text or another number to others",
        )));
    }
    if unsigned.bytes().all(|b| b.is_ascii_digit()) {
        return Some(integer(text));
    }
    if !is_float(unsigned) {
        return None;
    }
    let value = text.parse::<f64>().ok().and_then(Number::from_f64);
    Some(value.map_or_else(
        || Err(ambiguous(text, "is too large a number")),
        |n| Ok(Value::Number(n)),
    ))
}

fn integer(text: &str) -> Result<Value, Ambiguous> {
    let digits = text.strip_prefix('+').unwrap_or(text);
    if let Ok(n) = digits.parse::<u64>() {
        return Ok(Value::from(n));
    }
    digits
        .parse::<i64>()
        .map(Value::from)
        .map_err(|_| ambiguous(text, "is too large a number"))
}

fn ambiguous(text: &str, why: &str) -> Ambiguous {
    Ambiguous {
        message: format!("a plain `{text}` {why}"),
        hint: format!("write \"{text}\" for the text, or a decimal number without prefix"),
    }
}

fn is_prefixed(text: &str) -> bool {
    let lower = text.to_ascii_lowercase();
    [("0x", 16), ("0o", 8), ("0b", 2)]
        .iter()
        .any(|(prefix, base)| {
            lower.strip_prefix(prefix).is_some_and(|rest| {
                !rest.is_empty() && rest.chars().all(|c| c.is_digit(*base) || c == '_')
            })
        })
}

fn is_grouped(text: &str) -> bool {
    text.contains('_')
        && text
            .chars()
            .all(|c| c.is_ascii_digit() || matches!(c, '_' | '.'))
}

fn has_leading_zero(text: &str) -> bool {
    text.len() > 1 && text.starts_with('0') && text.bytes().all(|b| b.is_ascii_digit())
}

/// The float of YAML 1.2's core schema, sign apart.
fn is_float(text: &str) -> bool {
    let (mantissa, exponent) = match text.find(['e', 'E']) {
        Some(at) => (&text[..at], Some(&text[at + 1..])),
        None => (text, None),
    };
    let digits = |t: &str| !t.is_empty() && t.bytes().all(|b| b.is_ascii_digit());
    let mantissa_fits = match mantissa.split_once('.') {
        Some(("", fraction)) => digits(fraction),
        Some((whole, fraction)) => digits(whole) && (fraction.is_empty() || digits(fraction)),
        None => digits(mantissa),
    };
    mantissa_fits && exponent.is_none_or(|e| digits(e.strip_prefix(['-', '+']).unwrap_or(e)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn reads_what_every_reader_reads_alike() {
        for (text, value) in [
            ("", json!(null)),
            ("~", json!(null)),
            ("true", json!(true)),
            ("False", json!(false)),
            ("0", json!(0)),
            ("-12", json!(-12)),
            ("99.9", json!(99.9)),
            ("1e3", json!(1000.0)),
            ("30s", json!("30s")),
            ("192.0.2.10", json!("192.0.2.10")),
            ("2026-12-01T02:00:00Z", json!("2026-12-01T02:00:00Z")),
            ("not", json!("not")),
            ("oN", json!("oN")),
            ("shop-1", json!("shop-1")),
            ("-", json!("-")),
            (".", json!(".")),
            ("1.", json!(1.0)),
        ] {
            assert_eq!(resolve(text), Ok(value), "{text}");
        }
    }

    #[test]
    fn refuses_what_readers_differ_on() {
        for text in [
            "y",
            "Yes",
            "NO",
            "on",
            "Off",
            "n",
            "010",
            "0x1F",
            "0o17",
            "0b1",
            "1_000",
            ".inf",
            "-.INF",
            ".NaN",
            "1e999",
            "123456789012345678901234567890",
        ] {
            assert!(resolve(text).is_err(), "{text}");
        }
    }
}
