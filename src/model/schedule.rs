//! When something is done again and again, by the clock of a place.

use std::{fmt, str::FromStr};

use croner::{Cron, errors::CronError};
use jiff::{Timestamp, Zoned, tz::TimeZone};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::time::Time;

/// A cron expression of five fields in a time zone.
///
/// A moment that the clock skips in spring is taken when the gap ends; one that it shows twice in autumn is taken once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Schedule {
    cron: Cron,
    zone: TimeZone,
    name: String,
}

/// Why a text is no schedule.
#[derive(Debug, thiserror::Error)]
pub enum ScheduleError {
    /// The expression cannot be read.
    #[error("`{0}` is no cron expression")]
    Cron(String, #[source] CronError),
    /// It has another number of fields.
    #[error("`{0}` has {1} fields, a cron expression has five: minute, hour, day, month, weekday")]
    Fields(String, usize),
    /// The expression never comes true.
    #[error("`{0}` never comes true")]
    Never(String),
    /// There is no such time zone.
    #[error("there is no time zone `{0}`")]
    Zone(String),
}

impl Schedule {
    /// Reads an expression, and a zone by its IANA name.
    ///
    /// # Errors
    /// Where either cannot be read, or no moment ever fits.
    pub fn parse(cron: &str, zone: &str) -> Result<Self, ScheduleError> {
        let fields = cron.split_whitespace().count();
        if fields != 5 && !cron.starts_with('@') {
            return Err(ScheduleError::Fields(cron.to_owned(), fields));
        }
        let read = Cron::from_str(cron);
        let schedule = Self {
            cron: read.map_err(|e| ScheduleError::Cron(cron.to_owned(), e))?,
            zone: TimeZone::get(zone).map_err(|_| ScheduleError::Zone(zone.to_owned()))?,
            name: zone.to_owned(),
        };
        // A year in which every day of every month lies ahead.
        if schedule.after(Time::from_millis(0)).is_none() {
            return Err(ScheduleError::Never(cron.to_owned()));
        }
        Ok(schedule)
    }

    /// The first moment after this one.
    #[must_use]
    pub fn after(&self, time: Time) -> Option<Time> {
        let next = self.cron.find_next_occurrence(&self.here(time), false);
        next.ok().map(|z| moment(&z))
    }

    /// The last moment that is not after this one.
    #[must_use]
    pub fn until(&self, time: Time) -> Option<Time> {
        let last = self.cron.find_previous_occurrence(&self.here(time), true);
        last.ok().map(|z| moment(&z))
    }

    /// A moment as the place's clock shows it, such as `2026-03-29 03:00 CEST`.
    #[must_use]
    pub fn words(&self, time: Time) -> String {
        self.here(time).strftime("%Y-%m-%d %H:%M %Z").to_string()
    }

    fn here(&self, time: Time) -> Zoned {
        let at = Timestamp::from_millisecond(time.as_millis()).unwrap_or(Timestamp::UNIX_EPOCH);
        at.to_zoned(self.zone.clone())
    }
}

fn moment(zoned: &Zoned) -> Time {
    Time::from_millis(zoned.timestamp().as_millisecond())
}

impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.cron.as_str(), self.name)
    }
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Written {
    cron: String,
    time_zone: String,
}

impl Serialize for Schedule {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let written = Written {
            cron: self.cron.as_str().to_owned(),
            time_zone: self.name.clone(),
        };
        written.serialize(to)
    }
}

impl<'de> Deserialize<'de> for Schedule {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let written = Written::deserialize(from)?;
        Self::parse(&written.cron, &written.time_zone).map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Time {
        Time::parse(text).unwrap()
    }

    /// The moments of a schedule from one moment on.
    fn moments(cron: &str, zone: &str, from: &str, how_many: usize) -> Vec<String> {
        let schedule = Schedule::parse(cron, zone).unwrap();
        let mut now = at(from);
        let mut out = Vec::new();
        for _ in 0..how_many {
            now = schedule.after(now).unwrap();
            assert_eq!(schedule.until(now), Some(now), "{cron}");
            out.push(now.to_string());
        }
        out
    }

    #[test]
    fn the_clock_of_the_place_counts() {
        assert_eq!(
            moments("0 3 * * *", "Europe/Berlin", "2026-03-27T12:00:00Z", 3),
            [
                "2026-03-28T02:00:00.000Z",
                "2026-03-29T01:00:00.000Z",
                "2026-03-30T01:00:00.000Z"
            ]
        );
    }

    #[test]
    fn what_spring_skips_is_taken_when_the_gap_ends() {
        assert_eq!(
            moments("30 2 * * *", "Europe/Berlin", "2026-03-28T12:00:00Z", 2),
            ["2026-03-29T01:00:00.000Z", "2026-03-30T00:30:00.000Z"]
        );
    }

    #[test]
    fn what_autumn_shows_twice_is_taken_once() {
        assert_eq!(
            moments("30 2 * * *", "Europe/Berlin", "2026-10-24T12:00:00Z", 3),
            [
                "2026-10-25T00:30:00.000Z",
                "2026-10-26T01:30:00.000Z",
                "2026-10-27T01:30:00.000Z"
            ]
        );
    }

    #[test]
    fn a_zone_without_summer_time_and_one_of_half_an_hour() {
        assert_eq!(
            moments(
                "0 9 1 * *",
                "Africa/Johannesburg",
                "2026-01-15T00:00:00Z",
                1
            ),
            ["2026-02-01T07:00:00.000Z"]
        );
        // Lord Howe Island goes by half an hour.
        assert_eq!(
            moments(
                "15 2 * * *",
                "Australia/Lord_Howe",
                "2026-10-03T00:00:00Z",
                1
            ),
            ["2026-10-03T15:30:00.000Z"]
        );
    }

    #[test]
    fn what_cannot_be_read_says_why() {
        for (cron, zone, said) in [
            ("0 3 * *", "UTC", "has 4 fields"),
            ("0 0 3 * * *", "UTC", "has 6 fields"),
            ("0 25 * * *", "UTC", "no cron expression"),
            ("0 3 31 2 *", "UTC", "never comes true"),
            ("0 3 * * *", "Europe/Berlinn", "no time zone"),
        ] {
            let error = Schedule::parse(cron, zone).unwrap_err().to_string();
            assert!(error.contains(said), "{cron} {zone}: {error}");
        }
    }
}
