//! Items of `failover check`.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What one check came to.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "camelCase")]
pub enum CheckStatus {
    /// As it should be.
    Ok,
    /// Works, but somebody should look.
    Warn,
    /// Could not be told: never counts as green.
    Unknown,
    /// A failover would suffer.
    Fail,
}

impl fmt::Display for CheckStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ok => "ok",
            Self::Warn => "warn",
            Self::Unknown => "unknown",
            Self::Fail => "fail",
        })
    }
}

/// One item of readiness.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CheckItem {
    /// What was checked, stable, such as `dns/ttl` or `announce/email/list`.
    pub name: String,
    /// What it came to.
    pub status: CheckStatus,
    /// What was seen.
    pub detail: String,
    /// What to do, where something is to be done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fix: Option<String>,
    /// It is said, and does not count: there was no way to tell, and a failover does not hang on it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub aside: bool,
}

impl CheckItem {
    /// As it should be.
    pub fn ok(name: impl Into<String>, detail: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            status: CheckStatus::Ok,
            detail: detail.into(),
            fix: None,
            aside: false,
        }
    }

    /// Not as it should be, with what to do.
    pub fn bad(
        name: impl Into<String>,
        status: CheckStatus,
        detail: impl Into<String>,
        fix: impl Into<String>,
    ) -> Self {
        Self {
            name: name.into(),
            status,
            detail: detail.into(),
            fix: Some(fix.into()),
            aside: false,
        }
    }

    /// What there was no way to tell, and what a failover does not hang on.
    pub fn untold(
        name: impl Into<String>,
        detail: impl Into<String>,
        fix: impl Into<String>,
    ) -> Self {
        Self {
            aside: true,
            ..Self::bad(name, CheckStatus::Unknown, detail, fix)
        }
    }

    /// The same, but a failover does not hang on it.
    #[must_use]
    pub fn aside(mut self) -> Self {
        self.aside = true;
        self
    }

    /// Whether it stands in the way of being ready.
    #[must_use]
    pub fn hinders(&self) -> bool {
        !self.aside && matches!(self.status, CheckStatus::Unknown | CheckStatus::Fail)
    }
}
