//! Sites: where a service can run.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::id::SiteName;

/// A place where the service can run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Site {
    /// Its name.
    pub name: SiteName,
    /// What it is in normal times.
    pub role: SiteRole,
    /// Where it stands.
    pub location: Location,
    /// Addresses that DNS points at when this site serves (A, AAAA) or one name (CNAME).
    pub addresses: Vec<String>,
    /// The URL by which this site can be reached without DNS having changed: the fallback URL when it serves.
    pub url: Option<String>,
}

/// What a site is in normal times.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "camelCase")]
pub enum SiteRole {
    /// Serves.
    Primary,
    /// Stands by.
    Standby,
}

/// Where a site stands.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Location {
    /// Region, as its provider names it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    /// Country, ISO 3166-1 alpha-2, upper case.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub country: Option<String>,
    /// Continent: AF, AN, AS, EU, NA, OC or SA.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub continent: Option<String>,
    /// Provider.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider: Option<String>,
}
