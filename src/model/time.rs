//! A moment, in milliseconds since 1970 UTC.
//!
//! Within one process the clock port never steps: it counts from the wall time at its start on a monotonic clock.

use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::span::Span;

/// A moment in milliseconds since 1970-01-01T00:00:00Z.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Time(i64);

impl Time {
    /// From milliseconds since 1970 UTC.
    #[must_use]
    pub const fn from_millis(ms: i64) -> Self {
        Self(ms)
    }

    /// In milliseconds since 1970 UTC.
    #[must_use]
    pub const fn as_millis(self) -> i64 {
        self.0
    }

    /// In whole seconds since 1970 UTC.
    #[must_use]
    pub const fn as_secs(self) -> i64 {
        self.0.div_euclid(1000)
    }

    /// This moment and so much later.
    #[must_use]
    pub fn after(self, span: Span) -> Self {
        Self(
            self.0
                .saturating_add(i64::try_from(span.as_millis()).unwrap_or(i64::MAX)),
        )
    }

    /// This moment and so much earlier.
    #[must_use]
    pub fn before(self, span: Span) -> Self {
        Self(
            self.0
                .saturating_sub(i64::try_from(span.as_millis()).unwrap_or(i64::MAX)),
        )
    }

    /// How long ago `earlier` was; zero where it lies ahead.
    #[must_use]
    pub fn since(self, earlier: Self) -> Span {
        Span::from_millis(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }

    fn timestamp(self) -> jiff::Timestamp {
        jiff::Timestamp::from_millisecond(self.0).unwrap_or(jiff::Timestamp::UNIX_EPOCH)
    }

    /// `14:03:22 UTC`, for people.
    #[must_use]
    pub fn clock(self) -> String {
        self.timestamp().strftime("%H:%M:%S UTC").to_string()
    }

    /// `2026-11-21 14:03 UTC`, for people.
    #[must_use]
    pub fn date(self) -> String {
        self.timestamp().strftime("%Y-%m-%d %H:%M UTC").to_string()
    }

    /// Year, month, day, hour, minute and second of UTC, each with all its digits.
    #[must_use]
    pub fn rfc_digits(self) -> [String; 6] {
        ["%Y", "%m", "%d", "%H", "%M", "%S"].map(|f| self.timestamp().strftime(f).to_string())
    }

    /// The day of UTC that it lies in, counted from 1970.
    #[must_use]
    pub const fn day(self) -> i64 {
        self.0.div_euclid(86_400_000)
    }

    /// The month of UTC that it lies in, counted from the year 0.
    #[must_use]
    pub fn month(self) -> i64 {
        let date = jiff::tz::TimeZone::UTC.to_datetime(self.timestamp()).date();
        i64::from(date.year()) * 12 + i64::from(date.month()) - 1
    }

    /// When a day begins.
    #[must_use]
    pub const fn of_day(day: i64) -> Self {
        Self(day.saturating_mul(86_400_000))
    }

    /// `2026-11-21`, for people.
    #[must_use]
    pub fn day_words(self) -> String {
        self.timestamp().strftime("%Y-%m-%d").to_string()
    }

    /// Reads RFC 3339.
    ///
    /// # Errors
    /// Where the text is no RFC 3339 time.
    pub fn parse(text: &str) -> Result<Self, jiff::Error> {
        text.parse::<jiff::Timestamp>()
            .map(|t| Self(t.as_millisecond()))
    }
}

impl fmt::Display for Time {
    /// RFC 3339 with milliseconds, UTC.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.3}", self.timestamp())
    }
}

impl Serialize for Time {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let text = String::deserialize(d)?;
        Self::parse(&text).map_err(|_| {
            de::Error::custom(format!(
                "`{text}` is no moment in RFC 3339 with its offset, such as 2026-12-01T02:00:00Z"
            ))
        })
    }
}

impl JsonSchema for Time {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Time".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "format": "date-time",
            "examples": ["2026-12-01T02:00:00Z"],
            "description": "A moment in RFC 3339 with its offset: 2026-12-01T02:00:00Z",
        })
    }
}
