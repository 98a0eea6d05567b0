//! What a deserialiser's message says, told apart so that each kind gets its own code, expectation and hint.

use super::{code::Code, nearest};

/// A value that does not fit its type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Misfit {
    /// A field that the type does not have.
    UnknownField {
        /// The field.
        field: String,
        /// Those it has.
        known: Vec<String>,
    },
    /// A field that must be there is not.
    MissingField(String),
    /// A word that is none of those allowed.
    UnknownVariant {
        /// The word.
        word: String,
        /// Those allowed.
        known: Vec<String>,
    },
    /// A value where a reference to a secret must stand.
    SecretValue,
    /// A value of another type.
    Type {
        /// What stands there.
        found: String,
        /// What should.
        expected: String,
    },
    /// A duration that is none.
    Unit(String),
    /// Anything else: the message as it is.
    Other(String),
}

const SECRET_WAYS: [&str; 3] = ["env", "file", "secretRef"];

/// Tells a message apart.
#[must_use]
pub fn classify(message: &str) -> Misfit {
    if let Some((field, known)) = named(message, "unknown field `") {
        return Misfit::UnknownField { field, known };
    }
    if let Some((word, known)) = named(message, "unknown variant `") {
        if known == SECRET_WAYS {
            return Misfit::SecretValue;
        }
        return Misfit::UnknownVariant { word, known };
    }
    if let Some(rest) = message.strip_prefix("missing field `") {
        return Misfit::MissingField(rest.trim_end_matches('`').to_owned());
    }
    if let Some((found, expected)) = typed(message) {
        if expected == "enum SecretRef" || expected.contains("enum SecretRef with") {
            return Misfit::SecretValue;
        }
        return Misfit::Type {
            found,
            expected: in_plain_words(&expected),
        };
    }
    if [
        "expected a duration",
        "a duration needs",
        "unknown unit",
        "the duration is",
    ]
    .iter()
    .any(|begin| message.starts_with(begin))
    {
        return Misfit::Unit(message.to_owned());
    }
    Misfit::Other(message.to_owned())
}

/// The word after `prefix` in backticks, and the words in backticks behind `expected`.
fn named(message: &str, prefix: &str) -> Option<(String, Vec<String>)> {
    let rest = message.strip_prefix(prefix)?;
    let end = rest
        .find("`, expected ")
        .or_else(|| rest.find("`, there are no"))?;
    let known = rest[end + 1..]
        .split('`')
        .skip(1)
        .step_by(2)
        .map(str::to_owned)
        .collect();
    Some((rest[..end].to_owned(), known))
}

fn typed(message: &str) -> Option<(String, String)> {
    let rest = message
        .strip_prefix("invalid type: ")
        .or_else(|| message.strip_prefix("invalid value: "))?;
    let at = rest.rfind(", expected ")?;
    Some((
        rest[..at].to_owned(),
        rest[at + ", expected ".len()..].to_owned(),
    ))
}

fn in_plain_words(expected: &str) -> String {
    let word = match expected {
        "a string" => "text",
        "a map" | "map with a single key" | "string or map" => {
            return "a map with one key".to_owned();
        }
        "a sequence" => "a list",
        "a boolean" => "true or false",
        "u16" | "u32" | "u64" | "usize" => "a whole number, not negative",
        "i32" | "i64" => "a whole number",
        "f64" => "a number",
        other if other.starts_with("struct ") => "a map",
        other if other.starts_with("enum ") => "a map with one key",
        other if other.starts_with("struct variant") || other.starts_with("newtype variant") => {
            "a map with one key, such as `immediate: {}`"
        }
        other => other,
    };
    word.to_owned()
}

impl Misfit {
    /// The code it is reported under.
    #[must_use]
    pub const fn code(&self) -> Code {
        match self {
            Self::UnknownField { .. } => Code::UnknownField,
            Self::MissingField(_) => Code::MissingField,
            Self::UnknownVariant { .. } => Code::UnknownValue,
            Self::SecretValue => Code::SecretValue,
            Self::Type { .. } => Code::WrongType,
            Self::Unit(_) => Code::Unit,
            Self::Other(_) => Code::BadValue,
        }
    }

    /// What is wrong, in one line.
    #[must_use]
    pub fn message(&self) -> String {
        match self {
            Self::UnknownField { field, .. } => format!("there is no field `{field}` here"),
            Self::MissingField(field) => format!("the field `{field}` is missing"),
            Self::UnknownVariant { word, .. } => format!("`{word}` is none of the words allowed"),
            Self::SecretValue => {
                "a secret must be given as a reference, never as a value".to_owned()
            }
            Self::Type { found, .. } if found == "null" => "nothing stands here".to_owned(),
            Self::Type { found, .. } => format!("{} is not what belongs here", spoken(found)),
            Self::Unit(message) | Self::Other(message) => message.clone(),
        }
    }

    /// What was expected.
    #[must_use]
    pub fn expected(&self) -> Option<String> {
        match self {
            Self::UnknownField { known, .. } if known.is_empty() => {
                Some("no fields at all".to_owned())
            }
            Self::UnknownField { known, .. } => Some(format!("one of {}", listed(known))),
            Self::UnknownVariant { known, .. } => Some(listed(known)),
            Self::SecretValue => Some("{env: NAME} or {file: /path}".to_owned()),
            Self::Type { expected, .. } => Some(expected.clone()),
            Self::Unit(_) => Some("a duration such as 250ms, 30s, 5m or 4h".to_owned()),
            Self::MissingField(_) | Self::Other(_) => None,
        }
    }

    /// What to do.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::UnknownField { field, known } => {
                if field == "on" && known.iter().any(|k| k == "runs") {
                    return Some("the kinds of run stand under `runs`: kubectl would read a plain `on` as true".to_owned());
                }
                nearest::hint(field, known)
            }
            Self::UnknownVariant { word, known } => nearest::hint(word, known),
            Self::SecretValue => Some(
                "give a reference: {env: NAME} or {file: /path}; if this value was ever committed, replace it".to_owned(),
            ),
            Self::Type { found, .. } if found == "null" => {
                Some("write a value behind the colon, or leave the field out".to_owned())
            }
            Self::Type { found, expected } if expected == "text" && !found.starts_with(['m', 's']) => {
                Some("put it in quotes where text is meant".to_owned())
            }
            Self::Type { .. } | Self::MissingField(_) | Self::Unit(_) | Self::Other(_) => None,
        }
    }
}

/// serde's word for what was found, for people.
fn spoken(found: &str) -> String {
    match found {
        "map" => "a map".to_owned(),
        "sequence" => "a list".to_owned(),
        "unit variant" => "a bare word".to_owned(),
        other => {
            let (kind, value) = other.split_once(' ').unwrap_or((other, ""));
            let value = value.trim_matches('`');
            match kind {
                "string" => format!("the text {value}"),
                "integer" | "floating" => {
                    format!("the number {}", value.trim_start_matches("point `"))
                }
                "boolean" => format!("the boolean {value}"),
                _ => other.to_owned(),
            }
        }
    }
}

fn listed(words: &[String]) -> String {
    let quoted: Vec<_> = words.iter().map(|w| format!("`{w}`")).collect();
    match quoted.split_last() {
        None => String::new(),
        Some((only, [])) => only.clone(),
        Some((last, rest)) => format!("{} or {last}", rest.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_messages_apart() {
        assert_eq!(
            classify("unknown field `rt0`, expected one of `rto`, `rpo`"),
            Misfit::UnknownField {
                field: "rt0".into(),
                known: vec!["rto".into(), "rpo".into()]
            }
        );
        assert_eq!(
            classify("unknown variant `hunter2`, expected one of `env`, `file`, `secretRef`"),
            Misfit::SecretValue
        );
        assert_eq!(
            classify("missing field `name`"),
            Misfit::MissingField("name".into())
        );
        assert_eq!(
            classify("invalid type: integer `5`, expected a string").message(),
            "the number 5 is not what belongs here"
        );
        assert_eq!(
            classify("a duration needs a unit: ms, s, m, h or d (for example 30s)").code(),
            Code::Unit
        );
    }

    #[test]
    fn never_repeats_a_secret() {
        for message in [
            "unknown variant `hunter2`, expected one of `env`, `file`, `secretRef`",
            "invalid type: string \"hunter2\", expected enum SecretRef",
        ] {
            let misfit = classify(message);
            assert_eq!(misfit, Misfit::SecretValue);
            assert!(
                !format!(
                    "{} {:?} {:?}",
                    misfit.message(),
                    misfit.expected(),
                    misfit.hint()
                )
                .contains("hunter2")
            );
        }
    }
}
