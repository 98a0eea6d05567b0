//! A length of time as people write it: `250ms`, `30s`, `5m`, `4h`, `1h30m`, `30d`.

use std::{fmt, str::FromStr, time::Duration};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// A length of time in whole milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Span(u64);

/// Why a text is no [`Span`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SpanError {
    /// There is no digit where a number must stand.
    #[error("expected a duration such as 250ms, 30s, 5m, 4h or 1h30m")]
    Shape,
    /// A number has no unit behind it.
    #[error("a duration needs a unit: ms, s, m, h or d (for example {0}s)")]
    NoUnit(u64),
    /// The unit is none that is known.
    #[error("unknown unit {0:?}: use ms, s, m, h or d")]
    Unit(String),
    /// The number is too large.
    #[error("the duration is too long")]
    Overflow,
}

impl Span {
    /// No time at all.
    pub const ZERO: Self = Self(0);

    /// From milliseconds.
    #[must_use]
    pub const fn from_millis(ms: u64) -> Self {
        Self(ms)
    }

    /// From seconds.
    #[must_use]
    pub const fn from_secs(secs: u64) -> Self {
        Self(secs * 1000)
    }

    /// In whole milliseconds.
    #[must_use]
    pub const fn as_millis(self) -> u64 {
        self.0
    }

    /// Whether it is no time at all.
    #[must_use]
    pub fn is_zero(&self) -> bool {
        *self == Self::ZERO
    }

    /// In seconds with a fraction.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "spans stay far below 2^52 ms")]
    pub fn as_secs_f64(self) -> f64 {
        self.0 as f64 / 1000.0
    }

    /// As the standard library's type.
    #[must_use]
    pub const fn to_std(self) -> Duration {
        Duration::from_millis(self.0)
    }

    /// This much less, at least zero.
    #[must_use]
    pub const fn saturating_sub(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }

    /// This much more.
    #[must_use]
    pub const fn saturating_add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }

    /// So many times as long.
    #[must_use]
    pub const fn saturating_mul(self, times: u64) -> Self {
        Self(self.0.saturating_mul(times))
    }
}

impl From<Duration> for Span {
    fn from(d: Duration) -> Self {
        Self(u64::try_from(d.as_millis()).unwrap_or(u64::MAX))
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 == 0 {
            return f.write_str("0s");
        }
        let mut rest = self.0;
        for (unit, size) in [
            ("d", 86_400_000),
            ("h", 3_600_000),
            ("m", 60_000),
            ("s", 1000),
            ("ms", 1),
        ] {
            let n = rest / size;
            rest %= size;
            if n > 0 {
                write!(f, "{n}{unit}")?;
            }
        }
        Ok(())
    }
}

impl FromStr for Span {
    type Err = SpanError;

    fn from_str(text: &str) -> Result<Self, SpanError> {
        let mut rest = text.trim();
        if rest.is_empty() {
            return Err(SpanError::Shape);
        }
        let mut total: u64 = 0;
        while !rest.is_empty() {
            let digits = rest
                .find(|c: char| !c.is_ascii_digit())
                .unwrap_or(rest.len());
            if digits == 0 {
                return Err(SpanError::Shape);
            }
            let n: u64 = rest[..digits].parse().map_err(|_| SpanError::Overflow)?;
            rest = &rest[digits..];
            if rest.is_empty() {
                return if n == 0 {
                    Ok(Self(0))
                } else {
                    Err(SpanError::NoUnit(n))
                };
            }
            let letters = rest
                .find(|c: char| c.is_ascii_digit())
                .unwrap_or(rest.len());
            let size = match &rest[..letters] {
                "ms" => 1,
                "s" => 1000,
                "m" => 60_000,
                "h" => 3_600_000,
                "d" => 86_400_000,
                other => return Err(SpanError::Unit(other.to_owned())),
            };
            rest = &rest[letters..];
            total = n
                .checked_mul(size)
                .and_then(|n| total.checked_add(n))
                .ok_or(SpanError::Overflow)?;
        }
        Ok(Self(total))
    }
}

impl Serialize for Span {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl de::Visitor<'_> for Visitor {
            type Value = Span;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a duration such as 250ms, 30s, 5m or 4h")
            }
            fn visit_str<E: de::Error>(self, v: &str) -> Result<Span, E> {
                v.parse().map_err(E::custom)
            }
            fn visit_u64<E: de::Error>(self, v: u64) -> Result<Span, E> {
                Err(E::custom(SpanError::NoUnit(v)))
            }
        }
        d.deserialize_any(Visitor)
    }
}

impl JsonSchema for Span {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Span".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "pattern": "^(0|([0-9]+(ms|s|m|h|d))+)$",
            "examples": ["30s"],
            "description": "A duration: 250ms, 30s, 5m, 4h, 1h30m, 30d",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_back_what_it_writes() {
        for text in [
            "250ms",
            "30s",
            "5m",
            "4h",
            "1h30m",
            "30d",
            "0s",
            "1d2h3m4s5ms",
        ] {
            assert_eq!(
                text.parse::<Span>().map(|s| s.to_string()),
                Ok(text.to_owned())
            );
        }
    }

    #[test]
    fn names_what_is_wrong() {
        assert_eq!("30".parse::<Span>(), Err(SpanError::NoUnit(30)));
        assert_eq!("30sec".parse::<Span>(), Err(SpanError::Unit("sec".into())));
        assert_eq!("".parse::<Span>(), Err(SpanError::Shape));
        assert_eq!("-5s".parse::<Span>(), Err(SpanError::Shape));
        assert_eq!(
            "99999999999999999999s".parse::<Span>(),
            Err(SpanError::Overflow)
        );
    }
}
