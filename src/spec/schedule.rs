//! Schedules in documents.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{code::Code, path::FieldPath, scope::Scope};
use crate::{
    model::schedule::{Schedule, ScheduleError},
    port::cause,
};

/// When something is done, by the clock of a place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ScheduleSpec {
    /// Minute, hour, day, month and weekday, such as `0 3 * * 6` for Saturdays at three.
    pub cron: String,
    /// The place's time zone by its IANA name, such as `Africa/Johannesburg`. Default: UTC.
    #[serde(default = "utc")]
    pub time_zone: String,
}

fn utc() -> String {
    "UTC".to_owned()
}

/// The schedule that stands in the field `schedule` of `at`, after its checks.
pub fn schedule(
    scope: &mut Scope<'_>,
    said: Option<&ScheduleSpec>,
    at: &FieldPath,
) -> Option<Schedule> {
    let said = said?;
    let error = match Schedule::parse(&said.cron, &said.time_zone) {
        Ok(schedule) => return Some(schedule),
        Err(error) => error,
    };
    let path = at.key("schedule");
    let (path, expected) = match &error {
        ScheduleError::Zone(_) => (
            path.key("timeZone"),
            "an IANA name such as Europe/Berlin or UTC",
        ),
        ScheduleError::Cron(..) | ScheduleError::Fields(..) | ScheduleError::Never(_) => (
            path.key("cron"),
            "minute, hour, day, month and weekday, such as `0 3 * * 6` for Saturdays at three",
        ),
    };
    let text = cause::in_full(&error);
    let complaint = scope.about(Code::BadValue, path, text).expected(expected);
    scope.add(complaint);
    None
}
