//! Open pages: who was paged, and who is next.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    decide::{core::Core, escalation, state::Paged},
    model::{id::PageId, page::Severity, time::Time},
};

/// An open page.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PageReport {
    /// Its id.
    pub id: PageId,
    /// One line.
    pub title: String,
    /// How urgent.
    #[serde(default = "critical")]
    pub severity: Severity,
    /// Since when.
    pub raised: Time,
    /// Who was paged so far, the last first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub told: Vec<PagedReport>,
    /// Who is paged next if nobody acknowledges.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<PagedReport>,
}

/// What a program says that does not know severities yet.
const fn critical() -> Severity {
    Severity::Critical
}

impl PageReport {
    /// Who was paged when, and who is next, in one sentence.
    #[must_use]
    pub fn course(&self) -> String {
        let told: Vec<_> = self.told.iter().map(ToString::to_string).collect();
        let told = if told.is_empty() {
            "nobody is paged yet".to_owned()
        } else {
            format!("paged {}", told.join(", before that "))
        };
        match &self.next {
            Some(next) => format!("{told}; next {next}"),
            None => told,
        }
    }
}

/// Who is paged when.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PagedReport {
    /// Who, as the documents name them: people, groups, channels.
    pub to: Vec<String>,
    /// When.
    pub at: Time,
}

impl fmt::Display for PagedReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at {}", self.to.join(", "), self.at.clock())
    }
}

/// The pages that nobody acknowledged.
pub fn open(core: &Core, now: Time) -> Vec<PageReport> {
    let open = core
        .state()
        .pages
        .iter()
        .filter(|(_, p)| p.acknowledged.is_none());
    open.map(|(id, p)| PageReport {
        id: id.clone(),
        title: p.page.title.clone(),
        severity: p.page.severity,
        raised: p.raised,
        told: told(p),
        next: escalation::ahead(core.service(), p, now).map(|(at, to)| PagedReport { to, at }),
    })
    .collect()
}

fn told(paged: &Paged) -> Vec<PagedReport> {
    let mut told: Vec<_> = paged
        .told
        .values()
        .map(|calling| PagedReport {
            to: calling.to.clone(),
            at: calling.at,
        })
        .collect();
    told.sort_by_key(|report| std::cmp::Reverse(report.at));
    told
}
