//! Readiness: whether a failover would go well, and what documents ask of it.

use std::{collections::BTreeMap, fmt};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{id::SiteName, secret::SecretRef, span::Span};

/// What the checks come to.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    JsonSchema,
)]
#[serde(rename_all = "camelCase")]
pub enum Readiness {
    /// Nothing that was checked would make a failover suffer, and the check is young enough.
    Ready,
    /// It would suffer.
    NotReady,
    /// It cannot be told: never checked, checked too long ago, checked for another plan, or something could not be seen.
    #[default]
    Unknown,
}

impl Readiness {
    /// As written in metrics and JSON.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Ready => "ready",
            Self::NotReady => "notReady",
            Self::Unknown => "unknown",
        }
    }
}

impl fmt::Display for Readiness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ready => "ready",
            Self::NotReady => "not ready",
            Self::Unknown => "unknown",
        })
    }
}

/// What documents ask of readiness.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ReadinessPolicy {
    /// Time between two checks that the controller makes by itself.
    pub every: Span,
    /// A check that is older says nothing any more.
    pub max_age: Span,
    /// How old the last proof of a credential may be.
    pub proof_max_age: Span,
    /// How far clocks may be apart.
    pub max_skew: Span,
    /// How old the last passed drill may be; none: a drill is asked for, not required.
    pub drill_max_age: Option<Span>,
    /// What must be the same at the sites.
    pub compare: Vec<Comparison>,
}

impl ReadinessPolicy {
    /// Unless documents say otherwise.
    pub const EVERY: Span = Span::from_secs(15 * 60);
    /// Unless documents say otherwise.
    pub const MAX_AGE: Span = Span::from_secs(24 * 3600);
    /// Unless documents say otherwise.
    pub const PROOF_MAX_AGE: Span = Span::from_secs(30 * 24 * 3600);
    /// Unless documents say otherwise.
    pub const MAX_SKEW: Span = Span::from_secs(1);
}

impl ReadinessPolicy {
    /// Whether documents say nothing of it.
    #[must_use]
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

impl Default for ReadinessPolicy {
    fn default() -> Self {
        Self {
            every: Self::EVERY,
            max_age: Self::MAX_AGE,
            proof_max_age: Self::PROOF_MAX_AGE,
            max_skew: Self::MAX_SKEW,
            drill_max_age: None,
            compare: Vec::new(),
        }
    }
}

/// Something that is read at each of some sites and held against each other.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Comparison {
    /// Unique within the service.
    pub name: String,
    /// How it is read at each site.
    pub sites: BTreeMap<SiteName, Reading>,
    /// What must hold.
    pub rule: Rule,
    /// What it comes to where it does not hold.
    pub otherwise: Otherwise,
    /// Time-out of one reading.
    pub timeout: Span,
}

/// How something is read at one site.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub enum Reading {
    /// What a program prints on standard output; it must end with status 0.
    Command(CommandReading),
    /// What a URL answers, with a status of 2xx.
    Http(HttpReading),
    /// What a query gives, in a read-only transaction.
    Sql(SqlReading),
}

/// What a program prints.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CommandReading {
    /// Program and arguments, run on the controller's host; no shell splits them.
    pub run: Vec<String>,
    /// Secrets for the program's environment, by the names they get there.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, SecretRef>,
}

/// What a URL answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HttpReading {
    /// The URL, of the site itself and not of the public name.
    pub url: String,
    /// Secrets for headers by the headers' names, such as `authorization`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, SecretRef>,
    /// A JSON pointer into the body, such as `/build/version`. Default: the whole body.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pointer: Option<String>,
    /// The answer's header to read instead of the body.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub header: Option<String>,
}

/// What a query gives.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SqlReading {
    /// How to connect to the site's own server.
    pub connection: String,
    /// The role's password.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<SecretRef>,
    /// The query; all its rows are compared.
    pub query: String,
}

/// What must hold between readings.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub enum Rule {
    /// They are the same text.
    #[default]
    Equal,
    /// They are numbers, and the largest is at most so much above the smallest.
    Within(f64),
    /// Each is a number, and at least so large.
    AtLeast(f64),
    /// Each is a number, and at most so large.
    AtMost(f64),
}

/// What a comparison comes to where its rule does not hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Otherwise {
    /// A failover would suffer: not ready.
    #[default]
    Fail,
    /// Somebody should look.
    Warn,
}
