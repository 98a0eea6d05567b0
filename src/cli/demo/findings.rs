//! What the demo found, everything of it measured.

use std::{collections::BTreeMap, path::PathBuf};

use serde::Serialize;

use super::{
    auditor::Checked,
    customer::Acknowledged,
    outside::{Received, Service},
    stage::TEAM_CHAT,
};
use crate::{
    cli::drill::Told,
    model::{id::StepId, span::Span, time::Time},
};

/// What the demo found.
#[derive(Clone, Debug, Serialize)]
pub struct Findings {
    /// What was shown.
    pub scenario: String,
    /// The database, such as `PostgreSQL 15.18`; none where the shop was stateless.
    pub database: Option<String>,
    /// `failedOver`, `asked`, `stayed`, `stuck`, `switchedOver` or `drilled`.
    pub outcome: Outcome,
    /// Why, in the engine's words.
    pub reason: String,
    /// Longest silence between two acknowledged orders, over all outages, or since planned work began; none where the
    /// service did not come back.
    pub downtime_s: Option<f64>,
    /// Orders that the shop acknowledged.
    pub acknowledged_writes: usize,
    /// Those of them that are not at the site which holds the data: the standby after a failover or a switchover, else
    /// the primary; none where that cannot be looked into, since its database was killed.
    pub lost_writes: Option<usize>,
    /// Those of them that the standby lacks while a person is asked: what an approval would lose.
    pub would_lose: Option<usize>,
    /// Whether the standby takes writes now, as it says itself.
    pub standby_promoted: bool,
    /// From the outage to the verdict; none where there was no outage.
    pub detection_s: Option<f64>,
    /// From the outage to the first message that a customer got.
    pub time_to_first_announcement_s: Option<f64>,
    /// What the name led to before, asked over the wire.
    pub dns_before: Vec<String>,
    /// What it leads to now.
    pub dns_after: Vec<String>,
    /// The URL that was published to customers.
    pub fallback_url: Option<String>,
    /// Messages to customers that were accepted, by channel.
    pub announcements: BTreeMap<String, usize>,
    /// Messages that name the fallback URL, and how many of those URLs led to an open shop.
    pub fallback_checks: FallbackChecks,
    /// What would be lost, as the controller forecast it before it acted.
    pub loss_forecast: Option<String>,
    /// The steps of the run.
    pub steps: Vec<StepFinding>,
    /// The drill.
    pub drill: Option<Told>,
    /// Where the report of the drill is.
    pub report: Option<PathBuf>,
    /// Where the journal stands; with --journal, where it was exported to, else it goes with the demo.
    pub journal: PathBuf,
    /// Records in it.
    pub journal_records: u64,
    /// Whether its chain is whole.
    pub journal_verified: bool,
}

/// How the demo ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Outcome {
    /// The standby took over.
    FailedOver,
    /// The controller waits for a person; the standby was not promoted.
    Asked,
    /// The primary kept serving, and nothing was begun or what was begun was taken back.
    Stayed,
    /// The run cannot go on by itself.
    Stuck,
    /// The standby took over in order.
    SwitchedOver,
    /// The recovery was exercised; the primary kept serving.
    Drilled,
}

/// URLs in messages, as their readers opened them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct FallbackChecks {
    /// Messages that name the fallback URL.
    pub messages: usize,
    /// Those whose URL led to an open shop at the standby.
    pub worked: usize,
}

/// A step of the run.
#[derive(Clone, Debug, Serialize)]
pub struct StepFinding {
    /// Its id.
    pub id: StepId,
    /// `done`, `failed`, `unclear`, `waiting`, …
    pub outcome: String,
    /// What it was expected to take when the run began.
    pub expected_s: f64,
    /// What it took.
    pub took_s: Option<f64>,
}

impl FallbackChecks {
    /// Counts what the auditor found.
    #[must_use]
    pub fn of(checked: &[Checked]) -> Self {
        let named = checked.iter().filter(|c| c.names_fallback);
        Self {
            messages: named.clone().count(),
            worked: named.filter(|c| c.works).count(),
        }
    }
}

/// The longest silence between two acknowledged orders after each outage, all together; none where none came after one
/// of them. Whether the shop came back at all cannot be told from this: an order that was under way is acknowledged late.
#[must_use]
pub fn downtime(orders: &[Acknowledged], outages: &[Time]) -> Option<Span> {
    let mut total = Span::ZERO;
    for (n, outage) in outages.iter().enumerate() {
        let until = outages.get(n + 1).copied();
        let last = orders.iter().rposition(|o| o.at <= *outage)?;
        let times = orders[last..]
            .iter()
            .map(|o| o.at)
            .take_while(|at| until.is_none_or(|u| *at <= u));
        let times: Vec<Time> = times.collect();
        let longest = times.windows(2).map(|pair| pair[1].since(pair[0])).max()?;
        total = total.saturating_add(longest);
    }
    Some(total)
}

/// Messages to customers by channel.
#[must_use]
pub fn by_channel(messages: &[Received]) -> BTreeMap<String, usize> {
    let mut counts: BTreeMap<String, usize> = ["email", "x", "telegram"]
        .map(|channel| (channel.to_owned(), 0))
        .into();
    for message in messages.iter().filter(|m| is_to_customers(m)) {
        let channel = match message.service {
            Service::Mail => "email",
            Service::X => "x",
            Service::Telegram => "telegram",
        };
        *counts.entry(channel.to_owned()).or_insert(0) += 1;
    }
    counts
}

/// Whether a message went to customers, not to the team.
#[must_use]
pub fn is_to_customers(message: &Received) -> bool {
    message.to != TEAM_CHAT.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::demo::shop::Receipt;

    fn order(ms: i64) -> Acknowledged {
        let receipt = Receipt {
            id: ms,
            site: "east".to_owned(),
            seal: None,
        };
        Acknowledged {
            at: Time::from_millis(ms),
            receipt,
        }
    }

    #[test]
    fn downtime_is_the_longest_silence_after_each_outage() {
        let orders: Vec<_> = [0, 20, 40, 2040, 2060, 5000, 5020].map(order).into();
        let at = Time::from_millis;
        assert_eq!(downtime(&orders, &[at(45)]), Some(Span::from_millis(2940)));
        assert_eq!(
            downtime(&orders, &[at(45), at(2050)]),
            Some(Span::from_millis(2000 + 2940))
        );
        assert_eq!(downtime(&orders, &[at(5030)]), None);
    }
}
